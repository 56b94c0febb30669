import { useSyncExternalStore } from 'react';
import type { Upload } from '../../../shared/protocol/api.ts';
import { ApiError, call, dataUrl, referenceOf, type VolumePlace, volumePath } from './client.ts';

/** A file on its way from this page. */
export interface PageUpload {
  readonly place: VolumePlace;
  readonly file: File;
  doneBytes: number;
  state: 'running' | 'waiting' | 'done' | 'failed' | 'cancelled';
  reason?: string;
}

const LONGEST_PAUSE_MS = 30_000;
/** What another try may mend. */
const PASSING = new Set(['unreachable', 'host-unreachable', 'stream-cut', 'rate-limited', 'agent-start']);

let uploads: readonly PageUpload[] = [];
const listeners = new Set<() => void>();
const aborts = new Map<string, AbortController>();
const keyOf = ({ place }: Pick<PageUpload, 'place'>): string => referenceOf(place);

function set(changed: PageUpload): void {
  uploads = [...uploads.filter((each) => keyOf(each) !== keyOf(changed)), changed];
  for (const listener of listeners) listener();
}

export function useUploads(): readonly PageUpload[] {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => uploads,
  );
}

// A tab is not closed by mistake; what was sent stays, and the same file goes on from there.
window.addEventListener('beforeunload', (event) => {
  if (uploads.some(({ state }) => state === 'running' || state === 'waiting')) event.preventDefault();
});

/** How much the host has; undefined where nothing was begun. */
async function received(place: VolumePlace): Promise<{ bytes: number; totalBytes: number } | undefined> {
  try {
    const { status } = await call<Upload>(`${volumePath(place)}/upload`);
    return { bytes: status.contiguousBytes, totalBytes: status.totalBytes };
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return undefined;
    throw error;
  }
}

/** Sends a file from a byte on. `fetch` does not tell how far it has come. */
function send(
  { place, file }: PageUpload,
  offset: number,
  query: string,
  progress: (doneBytes: number) => void,
  signal: AbortSignal,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open('PUT', `${dataUrl(place, 'image')}${query}`);
    request.setRequestHeader('content-type', 'application/octet-stream');
    request.setRequestHeader('content-range', `bytes ${offset}-${file.size - 1}/${file.size}`);
    request.upload.onprogress = ({ loaded }) => progress(offset + loaded);
    request.onerror = () => reject(new ApiError('unreachable', 'the connection was cut', 0));
    request.onabort = () => reject(new ApiError('cancelled', 'it was cancelled', 0));
    request.onload = () => {
      if (request.status < 300) return resolve();
      try {
        const { code, detail } = JSON.parse(request.responseText) as { code: string; detail: string };
        reject(new ApiError(code, detail, request.status));
      } catch {
        reject(new ApiError('internal', `the controller answers ${request.status}`, request.status));
      }
    };
    signal.addEventListener('abort', () => request.abort(), { once: true });
    request.send(file.slice(offset));
  });
}

/**
 * Uploads a file as a new volume, and goes on after each cut by itself until it is whole, is cancelled, or is refused. One that was begun
 * before, such as in a tab that was closed, goes on where it stood when the same file is given again.
 */
export async function upload(place: VolumePlace, file: File, format: string | undefined): Promise<void> {
  const abort = new AbortController();
  let now: PageUpload = { place, file, doneBytes: 0, state: 'running' };
  const change = (changes: Partial<PageUpload>): void => {
    now = { ...now, ...changes };
    set(now);
  };
  aborts.set(keyOf(now), abort);
  change({});
  const query = `&onlyNew=true${format === undefined ? '' : `&format=${encodeURIComponent(format)}`}`;
  for (let pauseMs = 1000; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
    try {
      const before = await received(place);
      if (before && before.totalBytes !== file.size)
        throw new ApiError('upload-offset', 'another file is on its way under this name', 409);
      const offset = before?.bytes ?? 0;
      change({ state: 'running', doneBytes: offset, reason: undefined });
      await send(
        now,
        offset,
        query,
        (doneBytes) => {
          pauseMs = 1000;
          change({ doneBytes });
        },
        abort.signal,
      );
      change({ state: 'done', doneBytes: file.size });
      return;
    } catch (error) {
      const { code, message } = error as ApiError;
      if (abort.signal.aborted) return change({ state: 'cancelled' });
      if (!PASSING.has(code)) {
        change({ state: 'failed', reason: message });
        throw error;
      }
      change({ state: 'waiting', reason: message });
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
      if (abort.signal.aborted) return change({ state: 'cancelled' });
    }
  }
}

/** Stops an upload and gives up what was sent. */
export async function cancelUpload(running: PageUpload): Promise<void> {
  aborts.get(keyOf(running))?.abort();
  await call(`${volumePath(running.place)}/upload`, { method: 'DELETE' });
}
