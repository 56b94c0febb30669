import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { XML_TYPE } from '../../shared/conf/xml/write.ts';
import { fromProblem, isStowageError, StowageError } from '../../shared/util/errors.ts';

/** What a program is told by the exit status; the README has the same table. */
export function exitStatusOf(error: StowageError): number {
  if (error.code === 'cancelled') return 130;
  if (error.status === 401 || error.status === 403) return 5;
  if (error.status === 404) return 3;
  if (error.code === 'host-unreachable' || error.code === 'stream-cut') return 6;
  if (error.status === 409) return 4;
  if (error.status === 400) return 2;
  return 1;
}

interface Credentials {
  url: string;
  token: string;
}

/** From the environment; else, for the user who started a controller on this machine, from its data directory. */
function credentials(): Credentials {
  const { STOWAGE_URL, STOWAGE_TOKEN } = process.env;
  if (STOWAGE_URL && !/^https?:\/\//.test(URL.parse(STOWAGE_URL)?.href ?? ''))
    throw new StowageError(
      'invalid-argument',
      `STOWAGE_URL is '${STOWAGE_URL}', which is no URL such as http://127.0.0.1:7070`,
    );
  if (STOWAGE_URL && STOWAGE_TOKEN) return { url: STOWAGE_URL, token: STOWAGE_TOKEN };
  const path = join(process.env.STOWAGE_DATA ?? join(homedir(), '.local/share/stowage'), 'client.json');
  try {
    const stored = JSON.parse(readFileSync(path, 'utf8')) as Credentials;
    // Its token is for that controller alone.
    if (STOWAGE_URL === undefined || new URL(STOWAGE_URL).href === new URL(stored.url).href)
      return { url: stored.url, token: STOWAGE_TOKEN ?? stored.token };
    throw new Error('another controller');
  } catch {
    throw new StowageError(
      'unauthenticated',
      'set STOWAGE_URL and STOWAGE_TOKEN; the controller prints both when it starts',
    );
  }
}

export interface CallOptions {
  method?: string;
  json?: unknown;
  /** A document of libvirt, in place of JSON. */
  xml?: string;
  /** What the answer shall be; JSON when absent. */
  accept?: string;
  signal?: AbortSignal;
}

function unreachable(url: string, error: Error): StowageError {
  const cause = error.cause instanceof Error ? error.cause.message : error.message;
  return new StowageError('host-unreachable', `the controller at ${url} does not answer: ${cause}`, {
    cause: error,
  });
}

function refusal(status: number, text: string): StowageError {
  let problem: unknown;
  try {
    problem = JSON.parse(text);
  } catch {
    problem = undefined;
  }
  return fromProblem(problem, 'internal', `the controller answered ${status}: ${text.slice(0, 200)}`);
}

/** One call of the API. Throws the controller's own error, or `host-unreachable` when it does not answer. */
export async function call(path: string, options: CallOptions = {}): Promise<Response> {
  const { url, token } = credentials();
  const headers: Record<string, string> = { authorization: `Bearer ${token}` };
  if (options.json !== undefined) headers['content-type'] = 'application/json';
  if (options.xml !== undefined) headers['content-type'] = XML_TYPE;
  if (options.accept) headers.accept = options.accept;
  const response = await fetch(new URL(`/api/v1${path}`, url), {
    method: options.method ?? 'GET',
    headers,
    body: options.xml ?? (options.json === undefined ? undefined : JSON.stringify(options.json)),
    signal: options.signal,
  }).catch((error: Error) => {
    throw options.signal?.aborted ? new StowageError('cancelled', 'interrupted') : unreachable(url, error);
  });
  if (response.ok) return response;
  throw refusal(response.status, await response.text());
}

/**
 * As {@link call}, for many bytes one way or the other: fetch and its web streams cost more CPU than all else that an
 * upload does. What breaks later, while the body is read, is thrown by the body.
 */
export async function callBytes(
  path: string,
  { method, upload }: { method?: string; upload?: { type: string; body: AsyncIterable<Uint8Array> } } = {},
): Promise<IncomingMessage> {
  const { url, token } = credentials();
  const target = new URL(`/api/v1${path}`, url);
  const headers: Record<string, string> = { authorization: `Bearer ${token}` };
  if (upload) headers['content-type'] = upload.type;
  const begin = target.protocol === 'https:' ? httpsRequest : httpRequest;
  const outgoing = begin(target, { method: method ?? (upload ? 'PUT' : 'GET'), headers });
  // A line that breaks later is told by the body.
  outgoing.on('error', () => undefined);
  const answered = once(outgoing, 'response') as Promise<[IncomingMessage]>;
  answered.catch(() => undefined);
  // An answer that comes before all is sent is a refusal: it counts, not the broken pipe.
  const sent = upload ? pipeline(upload.body, outgoing) : void outgoing.end();
  try {
    await Promise.race([sent, answered]);
    const [response] = await answered;
    if (response.statusCode! < 300) return response;
    throw refusal(response.statusCode!, await readAll(response));
  } catch (error) {
    outgoing.destroy();
    await Promise.resolve(sent).catch(() => undefined);
    throw isStowageError(error) ? error : unreachable(url, error as Error);
  }
}

async function readAll(response: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of response) pieces.push(piece as Buffer);
  return Buffer.concat(pieces).toString();
}

/** The JSON body of an answer. */
export async function callJson<T>(path: string, options: CallOptions = {}): Promise<T> {
  const response = await call(path, options);
  const text = await response.text();
  try {
    return (text ? JSON.parse(text) : undefined) as T;
  } catch {
    throw new StowageError(
      'host-unreachable',
      `what answers at ${credentials().url} is no controller of Stowage`,
    );
  }
}

/** Where the controller is, without a path. */
export const controllerUrl = (): string => new URL(credentials().url).origin;

export function eventsUrl(): { url: string; headers: Record<string, string> } {
  const { url, token } = credentials();
  return {
    url: new URL('/api/v1/events', url).href.replace(/^http/, 'ws'),
    headers: { authorization: `Bearer ${token}` },
  };
}
