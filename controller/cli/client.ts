import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fromProblem, StowageError } from '../../shared/util/errors.ts';

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
  if (STOWAGE_URL && STOWAGE_TOKEN) return { url: STOWAGE_URL, token: STOWAGE_TOKEN };
  const path = join(process.env.STOWAGE_DATA ?? join(homedir(), '.local/share/stowage'), 'client.json');
  try {
    const stored = JSON.parse(readFileSync(path, 'utf8')) as Credentials;
    return { url: STOWAGE_URL ?? stored.url, token: STOWAGE_TOKEN ?? stored.token };
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
  body?: ReadableStream | AsyncIterable<Uint8Array>;
  type?: string;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

/** One call of the API. Throws the controller's own error, or `host-unreachable` when it does not answer. */
export async function call(path: string, options: CallOptions = {}): Promise<Response> {
  const { url, token } = credentials();
  const headers: Record<string, string> = { authorization: `Bearer ${token}`, ...options.headers };
  if (options.json !== undefined) headers['content-type'] = 'application/json';
  if (options.type) headers['content-type'] = options.type;
  const body =
    options.json === undefined ? (options.body as RequestInit['body']) : JSON.stringify(options.json);
  const init: RequestInit & { duplex?: 'half' } = {
    method: options.method ?? 'GET',
    headers,
    body,
    signal: options.signal,
  };
  if (options.body) init.duplex = 'half';
  const response = await fetch(new URL(`/api/v1${path}`, url), init).catch((error: Error) => {
    if (options.signal?.aborted) throw new StowageError('cancelled', 'interrupted');
    const cause = error.cause instanceof Error ? error.cause.message : error.message;
    throw new StowageError('host-unreachable', `the controller at ${url} does not answer: ${cause}`, {
      cause: error,
    });
  });
  if (response.ok) return response;
  const text = await response.text();
  let problem: unknown;
  try {
    problem = JSON.parse(text);
  } catch {
    problem = undefined;
  }
  throw fromProblem(problem, 'internal', `the controller answered ${response.status}: ${text.slice(0, 200)}`);
}

/** The JSON body of an answer. */
export async function callJson<T>(path: string, options: CallOptions = {}): Promise<T> {
  const response = await call(path, options);
  const text = await response.text();
  return (text ? JSON.parse(text) : undefined) as T;
}

export function eventsUrl(): { url: string; headers: Record<string, string> } {
  const { url, token } = credentials();
  return {
    url: new URL('/api/v1/events', url).href.replace(/^http/, 'ws'),
    headers: { authorization: `Bearer ${token}` },
  };
}
