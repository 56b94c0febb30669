import { once } from 'node:events';
import { isIP } from 'node:net';
import { hostname } from 'node:os';
import { connect, type TLSSocket } from 'node:tls';
import type { AuditRecord } from '../../../shared/protocol/api.ts';
import type { Destination } from './destination.ts';

export interface SyslogOptions {
  host: string;
  port: number;
  /** PEM: whom to believe, instead of the authorities that Node.js knows. */
  ca?: string;
  /** PEM: who we are, where the server asks. */
  cert?: string;
  key?: string;
}

const GATHER_MS = 5000;
/** RFC 5424, 6.2.1. */
const LOG_AUDIT = 13;
const SEVERITY = { begun: 6, done: 5, failed: 4, refused: 4 } as const;
const LONGEST_MSGID = 32;

/** The same value in ASCII: text in UTF-8 would have to begin with a byte order mark, which no reader of JSON takes. */
const asciiJson = (value: unknown): string =>
  JSON.stringify(value).replace(
    /[\u007f-\uffff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );

/** A record as a message of RFC 5424, whose text is the record in JSON. */
export function syslogMessage(record: AuditRecord): string {
  const priority = LOG_AUDIT * 8 + SEVERITY[record.outcome];
  const host = hostname().replace(/[^!-~]/g, '') || '-';
  const id = record.action.replace(/[^!-~]/g, '').slice(0, LONGEST_MSGID) || '-';
  return `<${priority}>1 ${new Date(record.at).toISOString()} ${host} stowage - ${id} - ${asciiJson(record)}`;
}

/** A message as it goes over TLS: its length in bytes before it (RFC 5425). */
const framed = (message: string): string => `${Buffer.byteLength(message)} ${message}`;

/** A connection, and what went wrong with it. */
interface Connection {
  socket: TLSSocket;
  failure?: Error;
  /** We have said that no more comes: that the other side ends, too, is right then. */
  isEnding: boolean;
}

/**
 * A syslog server that speaks RFC 5424 over TLS. It never says what it has taken. So what was sent counts only when the connection was
 * ended by us, and the server has ended it, too, without an error: it has read all of it then.
 */
export function syslogDestination(options: SyslogOptions): Destination {
  const { host, port, ca, cert, key } = options;
  let connection: Connection | undefined;

  const connected = async (signal: AbortSignal): Promise<Connection> => {
    if (connection) return connection;
    const servername = isIP(host) ? undefined : host;
    const socket = connect({ host, port, ca, cert, key, servername });
    const fresh: Connection = { socket, isEnding: false };
    socket.on('error', (error) => {
      fresh.failure ??= error;
    });
    const ended = (): void => {
      if (!fresh.isEnding) fresh.failure ??= new Error(`${host} has closed the connection`);
    };
    socket.on('end', ended).on('close', ended);
    // It has nothing to say.
    socket.resume();
    try {
      await once(socket, 'secureConnect', { signal });
    } catch (error) {
      socket.destroy();
      throw fresh.failure ?? error;
    }
    connection = fresh;
    return fresh;
  };

  /** Settles at an event of a connection, or at its end. */
  const until = async (
    { socket }: Connection,
    event: 'drain' | 'close',
    signal: AbortSignal,
  ): Promise<void> => {
    const over = new AbortController();
    const either = { signal: AbortSignal.any([signal, over.signal]) };
    try {
      await Promise.race([once(socket, event, either), once(socket, 'close', either)]);
    } catch (error) {
      // What is wrong with the connection is kept with it.
      if (signal.aborted) throw error;
    } finally {
      over.abort();
    }
  };

  const close = async (): Promise<void> => {
    connection?.socket.destroy();
    connection = undefined;
  };

  return {
    name: `syslog ${host}:${port}`,
    gatherMs: GATHER_MS,
    async last(signal) {
      await connected(signal);
      return undefined;
    },
    async take(records, signal) {
      const to = await connected(signal);
      const isTaken = to.socket.write(records.map((record) => framed(syslogMessage(record))).join(''));
      if (!isTaken && !to.failure) await until(to, 'drain', signal);
      if (to.failure) throw to.failure;
    },
    async confirm(signal) {
      const to = connection;
      if (!to) throw new Error(`${host} has closed the connection`);
      if (!to.failure) {
        to.isEnding = true;
        to.socket.end();
        if (!to.socket.closed) await until(to, 'close', signal);
      }
      connection = undefined;
      if (to.failure) throw to.failure;
    },
    close,
  };
}
