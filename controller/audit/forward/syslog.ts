import { once } from 'node:events';
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

const PATIENCE_MS = 30_000;
/** A server that breaks off may not have taken what it was sent just before. */
const DOUBT_MS = 5000;
/** RFC 5424, 6.2.1. */
const LOG_AUDIT = 13;
const SEVERITY = { begun: 6, done: 5, failed: 4, refused: 4 } as const;
const LONGEST_MSGID = 32;

/** A record as a message of RFC 5424, whose text is the record in JSON, as `audit export` writes it. */
export function syslogMessage(record: AuditRecord): string {
  const priority = LOG_AUDIT * 8 + SEVERITY[record.outcome];
  const host = hostname().replace(/[^!-~]/g, '') || '-';
  const id = record.action.replace(/[^!-~]/g, '').slice(0, LONGEST_MSGID) || '-';
  return `<${priority}>1 ${new Date(record.at).toISOString()} ${host} stowage - ${id} - ${JSON.stringify(record)}`;
}

/** A message as it goes over TLS: its length in bytes before it (RFC 5425). */
const framed = (message: string): string => `${Buffer.byteLength(message)} ${message}`;

/** A syslog server that speaks RFC 5424 over TLS. It never says what it has taken: what it was sent shortly before it broke off is sent again. */
export function syslogDestination(options: SyslogOptions): Destination {
  const { host, port, ca, cert, key } = options;
  let socket: TLSSocket | undefined;
  let failure: Error | undefined;

  const connected = async (signal: AbortSignal): Promise<TLSSocket> => {
    if (socket) return socket;
    failure = undefined;
    const fresh = connect({ host, port, ca, cert, key, servername: servernameOf(host) });
    fresh.on('error', (error) => {
      failure ??= error;
    });
    fresh.on('close', () => {
      failure ??= new Error(`${host} has closed the connection`);
    });
    // It has nothing to say.
    fresh.resume();
    try {
      await once(fresh, 'secureConnect', {
        signal: AbortSignal.any([signal, AbortSignal.timeout(PATIENCE_MS)]),
      });
    } catch (error) {
      fresh.destroy();
      throw patient(error, host);
    }
    fresh.setKeepAlive(true, PATIENCE_MS);
    socket = fresh;
    return fresh;
  };

  const check = (): void => {
    if (socket && failure) throw failure;
  };

  return {
    name: `syslog ${host}:${port}`,
    doubtMs: DOUBT_MS,
    async last(signal) {
      await connected(signal);
      return undefined;
    },
    async take(records, signal) {
      const stream = await connected(signal);
      check();
      if (stream.write(records.map((record) => framed(syslogMessage(record))).join(''))) return;
      try {
        await once(stream, 'drain', { signal: AbortSignal.any([signal, AbortSignal.timeout(PATIENCE_MS)]) });
      } catch (error) {
        throw failure ?? patient(error, host);
      }
    },
    check,
    async close() {
      const last = socket;
      socket = undefined;
      if (!last || last.destroyed) return;
      // What was written goes out first, if the other side takes it.
      last.end();
      await once(last, 'close', { signal: AbortSignal.timeout(1000) }).catch(() => last.destroy());
    },
  };
}

/** Addresses are no names of servers (RFC 6066). */
const servernameOf = (host: string): string | undefined => (/^[\d.]+$|:/.test(host) ? undefined : host);

const patient = (error: unknown, host: string): Error =>
  (error as Error).name === 'AbortError' || (error as Error).name === 'TimeoutError'
    ? new Error(`${host} does not answer`)
    : (error as Error);
