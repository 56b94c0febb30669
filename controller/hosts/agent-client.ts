import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import type { Duplex, Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { z } from 'zod';
import {
  ALLOW_USED_HEADER,
  FENCE_HEADER,
  PASSPHRASE_HEADER,
  RELAY_UPGRADE,
  VOLUME_ID_HEADER,
} from '../../shared/protocol/agent.ts';
import { clock, sleep } from '../../shared/util/clock.ts';
import { fromProblem, isStowageError, StowageError } from '../../shared/util/errors.ts';
import { parseJson } from '../../shared/util/json.ts';
import { splitReference } from '../../shared/util/references.ts';
import { inSpan, isTraced } from '../traces/span.ts';
import { readText } from './answers.ts';

/** Longest silence before an answer counts as lost. Progress and events are never silent that long. */
const STALL_MS = 30_000;

export interface AgentRequest {
  method?: string;
  /** Sent as JSON. */
  json?: unknown;
  /** Sent as it is, of the given content type. */
  body?: { stream: Readable; type: string };
  headers?: Record<string, string>;
  /** Lease token of the volume that the request changes. */
  fence?: number;
  /** Id of the volume that the request changes: no other one of its name shall be. */
  volumeId?: string;
  /** What the encrypted volume of the request is opened, or made, with. */
  passphrase?: string;
  /** The volume may be changed though domains use it. */
  allowUsed?: boolean;
  signal?: AbortSignal;
  /** For requests that take long before they answer, such as wiping. */
  patient?: boolean;
  /** Many bytes pass: over the way that carries them best. */
  bulk?: boolean;
}

/** HTTP to one agent over whatever link there is: neither knows of the other. One stream a request. */
export class AgentClient {
  readonly #host: string;
  readonly #open: (bulk: boolean) => Promise<Duplex>;
  readonly #linkEnd: () => AbortSignal | undefined;

  /** Every request, whatever it waits for, ends with the link that it began on: `linkEnd` gives the end of the present one. */
  constructor(
    host: string,
    open: (bulk: boolean) => Promise<Duplex>,
    linkEnd: () => AbortSignal | undefined = () => undefined,
  ) {
    this.#host = host;
    this.#open = open;
    this.#linkEnd = linkEnd;
  }

  async #start(
    path: string,
    options: AgentRequest,
    linkEnd: AbortSignal | undefined,
    extra: Record<string, string> = {},
  ): Promise<ClientRequest> {
    linkEnd?.throwIfAborted();
    const stream = await this.#open(options.bulk ?? options.body !== undefined);
    const signals = [options.signal, linkEnd].filter((signal) => signal !== undefined);
    const headers: Record<string, string> = {
      host: 'agent',
      connection: 'close',
      ...options.headers,
      ...extra,
    };
    if (options.fence !== undefined) headers[FENCE_HEADER] = String(options.fence);
    if (options.volumeId !== undefined) headers[VOLUME_ID_HEADER] = options.volumeId;
    if (options.allowUsed) headers[ALLOW_USED_HEADER] = 'yes';
    if (options.passphrase !== undefined)
      headers[PASSPHRASE_HEADER] = Buffer.from(options.passphrase).toString('base64');
    if (options.json !== undefined) headers['content-type'] = 'application/json';
    if (options.body) headers['content-type'] = options.body.type;
    stream.on('error', () => stream.destroy());
    return request({
      method: options.method ?? 'GET',
      path,
      headers,
      signal: signals.length > 0 ? AbortSignal.any(signals) : undefined,
      createConnection: () => stream,
    });
  }

  /** What is part of a trace gets a span for each question to an agent, up to the head of its answer. */
  #traced<T>(method: string, path: string, ask: () => Promise<T>): Promise<T> {
    if (!isTraced()) return ask();
    const template = templateOf(path);
    const attributes = {
      'http.request.method': method,
      'url.template': template,
      'server.address': this.#host,
    };
    return inSpan(`${method} ${template}`, { kind: 'client', attributes }, ask);
  }

  /** The answer, its body not yet read. Throws the agent's own error, or `stream-cut` when the link broke. */
  stream(path: string, options: AgentRequest = {}): Promise<IncomingMessage> {
    return this.#traced(options.method ?? 'GET', path, () => this.#ask(path, options));
  }

  async #ask(path: string, options: AgentRequest): Promise<IncomingMessage> {
    const linkEnd = this.#linkEnd();
    const outgoing = await this.#start(path, options, linkEnd);
    const answered = new Promise<IncomingMessage>((resolve, reject) => {
      outgoing.once('response', resolve);
      outgoing.once('error', (error) => reject(brokenLink(error, options.signal, linkEnd)));
    });
    answered.catch(() => undefined);
    const stall = options.patient
      ? undefined
      : clock.after(STALL_MS, () => outgoing.destroy(new Error('no answer')));
    try {
      if (options.body) {
        stall?.stop();
        await Promise.race([pipeline(options.body.stream, outgoing), answered]);
      } else {
        outgoing.end(options.json === undefined ? undefined : JSON.stringify(options.json));
      }
      const response = await answered;
      if (response.statusCode! < 400) return response;
      const text = await readText(response);
      throw fromProblem(parseJson(text), 'internal', `the agent answered ${response.statusCode}`);
    } catch (error) {
      outgoing.destroy();
      // A sink that refuses the data answers and hangs up: its answer says why, the broken pipe does not.
      if (!isStowageError(error)) {
        const response = await Promise.race([answered, sleep(1000).then(() => undefined)]).catch(
          () => undefined,
        );
        if (response && response.statusCode! >= 400)
          throw fromProblem(parseJson(await readText(response)), 'internal', 'the agent refused the data');
        throw brokenLink(error, options.signal, linkEnd);
      }
      throw error;
    } finally {
      stall?.stop();
    }
  }

  /** The JSON body of the answer. Throws `stream-corrupt` for one that is not of the schema: agents are not trusted. */
  async json<S extends z.ZodType>(schema: S, path: string, options: AgentRequest = {}): Promise<z.output<S>> {
    const { data, error } = schema.safeParse(parseJson(await this.#text(path, options)));
    if (!error) return data;
    const [issue] = error.issues;
    throw new StowageError(
      'stream-corrupt',
      `the agent sent an answer that is none: ${issue?.path.join('.') || 'all of it'} is wrong`,
    );
  }

  /** For requests whose answer says no more than that it was done. */
  async send(path: string, options: AgentRequest = {}): Promise<void> {
    await this.#text(path, options);
  }

  async #text(path: string, options: AgentRequest): Promise<string> {
    const linkEnd = this.#linkEnd();
    const response = await this.stream(path, options);
    try {
      return await readText(response);
    } catch (error) {
      response.destroy();
      throw brokenLink(error, options.signal, linkEnd);
    }
  }

  /** A stream for the opaque bytes of a relayed transfer. */
  upgrade(path: string, signal?: AbortSignal): Promise<Duplex> {
    return this.#traced('GET', path, () => this.#upgrade(path, signal));
  }

  async #upgrade(path: string, signal: AbortSignal | undefined): Promise<Duplex> {
    const linkEnd = this.#linkEnd();
    const outgoing = await this.#start(path, { signal, bulk: true }, linkEnd, {
      connection: 'Upgrade',
      upgrade: RELAY_UPGRADE,
    });
    return new Promise((resolve, reject) => {
      outgoing.once('upgrade', (_response, socket, head) => {
        if (head.length > 0) socket.unshift(head);
        resolve(socket);
      });
      outgoing.once('response', (response) => {
        response.resume();
        reject(new StowageError('transfer-not-found', `the agent does not relay: ${response.statusCode}`));
      });
      outgoing.once('error', (error) => reject(brokenLink(error, signal, linkEnd)));
      outgoing.end();
    });
  }
}

/** A path without what it names, so that there are few of them: `/v1/pools/{name}`. */
const templateOf = (path: string): string =>
  path
    .replace(/\?.*/, '')
    .replace(/\/(pools|volumes|snapshots|domains|transfers|sends)\/[^/]+/g, '/$1/{name}')
    .replace(/\{name\}\/trash\/[^/]+/, '{name}/trash/{name}');

/** Where an agent has a volume. */
export function agentVolumePath({ pool, volume }: { pool: string; volume: string }): string {
  return `/v1/pools/${encodeURIComponent(pool)}/volumes/${encodeURIComponent(volume)}`;
}

/** Whether a volume is there, by its path at its agent. Throws whatever keeps that from being known. */
export async function agentHas(agent: AgentClient, path: string): Promise<boolean> {
  try {
    await agent.send(path);
    return true;
  } catch (error) {
    if (!isStowageError(error, 'volume-not-found')) throw error;
    return false;
  }
}

/** The host of a volume, and where its agent has it. */
export function agentPlace(reference: string): { host: string; path: string; name: string } {
  const [host = '', pool = '', name = ''] = splitReference(reference);
  return { host, name, path: agentVolumePath({ pool, volume: name }) };
}

function brokenLink(error: unknown, signal?: AbortSignal, linkEnd?: AbortSignal): Error {
  if (isStowageError(error)) return error;
  if (signal?.aborted)
    return isStowageError(signal.reason)
      ? signal.reason
      : new StowageError('cancelled', 'the operation was cancelled');
  const why = linkEnd?.aborted ? linkEnd.reason : error;
  return new StowageError(
    'stream-cut',
    `the link to the agent broke: ${why instanceof Error ? why.message : why}`,
    { cause: error },
  );
}
