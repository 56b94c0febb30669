import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import type { WebSocket } from 'ws';
import { XML_TYPE } from '../../shared/conf/xml/write.ts';
import { fromProblem, isStowageError, StowageError } from '../../shared/util/errors.ts';
import { schemeHint } from '../../shared/util/scheme-hint.ts';
import { hintWhenInterrupted } from './interrupt.ts';

// An import of either would load all of fetch and HTTP/2 with it, which takes 30 ms of every command.
const { request: httpRequest } = process.getBuiltinModule('node:http');
const { request: httpsRequest } = process.getBuiltinModule('node:https');

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
  /** Of its certificate, `AB:CD:…`: no other is taken for it. */
  fingerprint?: string;
  /** Where other machines reach it; as this one where that is not known. */
  publicUrl?: string;
}

/** Without a token where the administrator's was revoked. */
type StoredCredentials = Omit<Credentials, 'token'> & { token?: string };

const NEITHER =
  'no controller is known here: set STOWAGE_URL and STOWAGE_TOKEN; on its own machine run this as its user or as root, with STOWAGE_DATA set to its data directory where that is another one';

/**
 * What a controller of this machine has written for its clients: one that this user has started, or that of the Debian package. Undefined
 * where there is none. Throws `unauthenticated` where this user may not read it.
 */
function storedCredentials(): StoredCredentials | undefined {
  const home = join(homedir(), '.local/share/stowage');
  for (const directory of process.env.STOWAGE_DATA
    ? [process.env.STOWAGE_DATA]
    : [home, '/var/lib/stowage']) {
    const path = join(directory, 'client.json');
    try {
      return JSON.parse(readFileSync(path, 'utf8')) as StoredCredentials;
    } catch (error) {
      const { code = 'it is damaged' } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT' || code === 'ENOTDIR') continue;
      const why =
        code === 'EACCES' ? 'you may not read it: use sudo, or set STOWAGE_URL and STOWAGE_TOKEN' : code;
      throw new StowageError('unauthenticated', `${path}: ${why}`);
    }
  }
  return undefined;
}

/** From the environment; else from a controller of this machine. */
function credentials(): Credentials {
  // What is empty is not set.
  const [STOWAGE_URL, STOWAGE_TOKEN, fingerprint] = [
    'STOWAGE_URL',
    'STOWAGE_TOKEN',
    'STOWAGE_FINGERPRINT',
  ].map((name) => process.env[name] || undefined);
  if (STOWAGE_URL && !/^https?:\/\//.test(URL.parse(STOWAGE_URL)?.href ?? ''))
    throw new StowageError(
      'invalid-argument',
      `STOWAGE_URL is '${STOWAGE_URL}', which is no URL such as http://127.0.0.1:7070`,
    );
  if (STOWAGE_URL && STOWAGE_TOKEN) return { url: STOWAGE_URL, token: STOWAGE_TOKEN, fingerprint };
  const stored = storedCredentials();
  // Its token is for that controller alone.
  if (!stored || (STOWAGE_URL !== undefined && new URL(STOWAGE_URL).href !== new URL(stored.url).href))
    throw new StowageError('unauthenticated', NEITHER);
  const token = STOWAGE_TOKEN ?? stored.token;
  if (token === undefined)
    throw new StowageError(
      'unauthenticated',
      "the administrator's token of this machine was revoked: set STOWAGE_TOKEN to one of your own",
    );
  return {
    ...stored,
    token,
    fingerprint: fingerprint ?? stored.fingerprint,
  };
}

let trusted: Promise<ConnectionOptions> | undefined;

/** How the controller is connected to: by TLS only one that has the certificate of the fingerprint, where there is one. */
function connectionOptions(): Promise<ConnectionOptions> {
  trusted ??= pinned(credentials());
  return trusted;
}

async function pinned({ url, fingerprint }: Credentials): Promise<ConnectionOptions> {
  const { protocol, hostname, port } = new URL(url);
  if (protocol === 'http:' && fingerprint !== undefined)
    throw new StowageError(
      'invalid-argument',
      `STOWAGE_FINGERPRINT is set, and ${url} is http, by which the token would go out unprotected; use https, or unset it`,
    );
  if (protocol !== 'https:' || fingerprint === undefined) return {};
  const host = hostname.replace(/^\[|\]$/g, '');
  // Nothing is sent here: it is only looked at what is shown.
  const socket = connectTls({ host, port: Number(port || 443), rejectUnauthorized: false });
  try {
    await once(socket, 'secureConnect').catch((error: Error) => {
      throw unreachable(url, error);
    });
    const shown = socket.getPeerX509Certificate();
    if (shown?.fingerprint256 !== fingerprint.toUpperCase())
      throw new StowageError(
        'host-key-mismatch',
        `what answers at ${url} shows the certificate ${shown?.fingerprint256}, and not ${fingerprint}; nothing was sent`,
      );
    // From now on only this one; whose name stands in it does not matter then.
    return { ca: shown.toString(), allowPartialTrustChain: true, checkServerIdentity: () => undefined };
  } finally {
    socket.destroy();
  }
}

export interface CallOptions {
  method?: string;
  json?: unknown;
  /** A document of libvirt, in place of JSON. */
  xml?: string;
  /** What the answer shall be; JSON when absent. */
  accept?: string;
  /** Bytes to send, of a content type; so many, where that is known. */
  upload?: { type: string; body: AsyncIterable<Uint8Array>; sizeBytes?: number };
  signal?: AbortSignal;
}

/** What may be wrong with the URL. */
function hintOf(url: string, code: string, cause: string): string {
  if (code.includes('SELF_SIGNED'))
    return '; if it is yours, set STOWAGE_FINGERPRINT to what it printed when it started';
  return schemeHint(url, code + cause);
}

function unreachable(url: string, error: Error): StowageError {
  const cause = error.cause instanceof Error ? error.cause.message : error.message;
  const hint = hintOf(url, (error as NodeJS.ErrnoException).code ?? '', cause);
  return new StowageError('host-unreachable', `the controller at ${url} does not answer: ${cause}${hint}`, {
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

/** The body and its content type, if there is one. */
function bodyOf({ json, xml, upload }: CallOptions): {
  type?: string;
  body?: string | AsyncIterable<Uint8Array>;
} {
  if (upload) return upload;
  if (xml !== undefined) return { type: XML_TYPE, body: xml };
  return json === undefined ? {} : { type: 'application/json', body: JSON.stringify(json) };
}

/**
 * One call of the API; its answer comes as a stream. Throws the controller's own error, or `host-unreachable` when it does not
 * answer. What breaks later, while the body is read, is thrown by the body.
 */
export async function call(path: string, options: CallOptions = {}): Promise<IncomingMessage> {
  const { url, token } = credentials();
  // A URL has no such parts: it would be that of something else.
  if (path.split(/[/?]/).some((part) => part === '.' || part === '..'))
    throw new StowageError('invalid-name', 'a name that starts with a dot is refused');
  const target = new URL(`/api/v1${path}`, url);
  const { type, body } = bodyOf(options);
  const headers: Record<string, string | number> = { authorization: `Bearer ${token}` };
  if (type !== undefined) headers['content-type'] = type;
  const length = typeof body === 'string' ? Buffer.byteLength(body) : options.upload?.sizeBytes;
  if (length !== undefined) headers['content-length'] = length;
  if (options.accept) headers.accept = options.accept;
  const method = options.method ?? (options.upload ? 'PUT' : 'GET');
  const dropHint =
    method === 'GET'
      ? undefined
      : hintWhenInterrupted(
          'the controller had not answered: it may do it all the same; see: stowage job list',
        );
  const begin = target.protocol === 'https:' ? httpsRequest : httpRequest;
  const { signal } = options;
  const outgoing = begin(target, { ...(await connectionOptions()), method, headers, signal });
  // A line that breaks later is told by the body.
  outgoing.on('error', () => undefined);
  const answered = once(outgoing, 'response') as Promise<[IncomingMessage]>;
  answered.catch(() => undefined);
  // An answer that comes before all is sent is a refusal: it counts, not the broken pipe.
  const sent = typeof body === 'object' ? pipeline(body, outgoing) : void outgoing.end(body);
  try {
    await Promise.race([sent, answered]);
    const [response] = await answered;
    if (response.statusCode! < 300) return response;
    throw refusal(response.statusCode!, await textOf(response));
  } catch (error) {
    outgoing.destroy();
    await Promise.resolve(sent).catch(() => undefined);
    if (isStowageError(error)) throw error;
    throw signal?.aborted ? new StowageError('cancelled', 'interrupted') : unreachable(url, error as Error);
  } finally {
    dropHint?.();
  }
}

export async function bytesOf(response: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of response) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
}

async function textOf(response: IncomingMessage): Promise<string> {
  return (await bytesOf(response)).toString();
}

/** The text of an answer. */
export async function callText(path: string, options: CallOptions = {}): Promise<string> {
  return textOf(await call(path, options));
}

/** A call whose answer says no more than that it was done. */
export async function send(path: string, options: CallOptions = {}): Promise<void> {
  await callText(path, options);
}

/** The JSON body of an answer. */
export async function callJson<T>(path: string, options: CallOptions = {}): Promise<T> {
  const text = await callText(path, options);
  try {
    return (text ? JSON.parse(text) : undefined) as T;
  } catch {
    throw new StowageError(
      'host-unreachable',
      `what answers at ${credentials().url} is no controller of Stowage`,
    );
  }
}

/** Where the controller is for other machines, without a path. */
export function controllerOrigin(): string {
  const { url, publicUrl = url } = credentials();
  return new URL(publicUrl).origin;
}

/** Opens the stream of events from now on. Throws what {@link call} does. */
export async function openEvents(): Promise<WebSocket> {
  const { url, token } = credentials();
  const target = new URL('/api/v1/events', url).href.replace(/^http/, 'ws');
  const headers = { authorization: `Bearer ${token}` };
  const { WebSocket } = await import('ws');
  const socket = new WebSocket(target, { ...(await connectionOptions()), headers });
  await new Promise<void>((resolve, reject) => {
    socket.once('open', resolve);
    socket.once('error', (error) => reject(unreachable(url, error)));
    socket.once('unexpected-response', (_request, response) => {
      textOf(response).then((text) => reject(refusal(response.statusCode!, text)), reject);
    });
  });
  return socket;
}
