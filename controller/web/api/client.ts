import { type Reading, readingQuery } from '../../../shared/protocol/reading.ts';

/** An error with its stable code and a sentence that says what to do. */
export class ApiError extends Error {
  readonly code: string;
  readonly status: number;

  constructor(code: string, message: string, status: number) {
    super(message);
    this.name = 'ApiError';
    this.code = code;
    this.status = status;
  }
}

const API = '/api/v1';

/** Called when the session has ended. */
let signedOut: () => void = () => undefined;
export function onSignedOut(callback: () => void): void {
  signedOut = callback;
}

async function failureOf(response: Response): Promise<ApiError> {
  try {
    const { code, detail } = (await response.json()) as { code: string; detail: string };
    return new ApiError(code, detail, response.status);
  } catch {
    return new ApiError('internal', `the controller answers ${response.status}`, response.status);
  }
}

interface CallOptions {
  method?: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  json?: unknown;
  signal?: AbortSignal;
}

async function ask(path: string, { method = 'GET', json, signal }: CallOptions): Promise<Response> {
  const response = await fetch(`${API}${path}`, {
    method,
    signal,
    headers: json === undefined ? {} : { 'content-type': 'application/json' },
    body: json === undefined ? undefined : JSON.stringify(json),
  }).catch((error: Error) => {
    if (error.name === 'AbortError') throw error;
    throw new ApiError(
      'unreachable',
      'the controller does not answer; what you did may not have been done',
      0,
    );
  });
  if (response.ok) return response;
  const failure = await failureOf(response);
  if (failure.code === 'unauthenticated') signedOut();
  throw failure;
}

/** The answer to a request, which the controller has checked. */
export async function call<T>(path: string, options: CallOptions = {}): Promise<T> {
  const response = await ask(path, options);
  return (response.status === 204 ? undefined : await response.json()) as T;
}

export interface VolumePlace {
  host: string;
  pool: string;
  volume: string;
}

const part = encodeURIComponent;
export const hostPath = (host: string): string => `/hosts/${part(host)}`;
export const poolPath = ({ host, pool }: { host: string; pool: string }): string =>
  `${hostPath(host)}/pools/${part(pool)}`;
export const volumePath = (place: VolumePlace): string => `${poolPath(place)}/volumes/${part(place.volume)}`;
/** Of the bytes of a volume, for links. */
export const dataUrl = (place: VolumePlace, reading: Reading): string =>
  `${API}${volumePath(place)}/data?${readingQuery(reading)}`;

/** Pages of the page itself. */
export const linkTo = {
  host: (host: string): string => `/hosts/${part(host)}`,
  pool: (host: string, pool: string): string => `/pools/${part(host)}/${part(pool)}`,
  volume: ({ host, pool, volume }: VolumePlace): string =>
    `/volumes/${part(host)}/${part(pool)}/${part(volume)}`,
  job: (job: number): string => `/jobs/${job}`,
};

export const placeOfVolume = ({
  host,
  pool,
  name,
}: {
  host: string;
  pool: string;
  name: string;
}): VolumePlace => ({ host, pool, volume: name });

export const referenceOf = ({ host, pool, volume }: VolumePlace): string => `${host}/${pool}/${volume}`;

export function placeOf(reference: string): VolumePlace {
  const [host = '', pool = '', ...volume] = reference.split('/');
  return { host, pool, volume: volume.join('/') };
}
