import type { Job, Upload } from '../../../shared/protocol/api.ts';
import { SharedValue, useShared } from '../parts/shared-value.ts';
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

const uploads = new SharedValue<readonly PageUpload[]>([]);
const aborts = new Map<string, AbortController>();
const keyOf = ({ place }: Pick<PageUpload, 'place'>): string => referenceOf(place);

function set(changed: PageUpload): void {
  uploads.set([...uploads.now.filter((each) => keyOf(each) !== keyOf(changed)), changed]);
}

export const useUploads = (): readonly PageUpload[] => useShared(uploads);

const isGoing = ({ state }: PageUpload): boolean => state === 'running' || state === 'waiting';

/** Stops all of them; what was sent stays on the hosts. */
export function forgetUploads(): void {
  for (const abort of aborts.values()) abort.abort();
  aborts.clear();
  uploads.set([]);
}

// A tab is not closed by mistake; what was sent stays, and the same file goes on from there.
window.addEventListener('beforeunload', (event) => {
  if (uploads.now.some(isGoing)) event.preventDefault();
});

/** By which a file is known again: two with one name and one size may hold other bytes. */
const identityOf = ({ name, size, lastModified }: File): string => `${name} ${size} ${lastModified}`;
const storedAt = (place: VolumePlace): string => `upload ${referenceOf(place)}`;

/** Which file the job of an upload is sending, as far as this browser knows. */
function fileOf(place: VolumePlace, job: number): string | undefined {
  const [stored, ...identity] = (localStorage.getItem(storedAt(place)) ?? '').split(' ');
  return Number(stored) === job ? identity.join(' ') : undefined;
}

/** Begins an upload, or takes up the one that was begun with the same file. Gives its job, and from where on it goes. */
async function begin(
  place: VolumePlace,
  file: File,
  format: string | undefined,
): Promise<{ job: number; offset: number }> {
  const json = { sizeBytes: file.size, onlyNew: true, ...(format !== undefined && { format }) };
  const { job, status } = await call<Upload>(`${volumePath(place)}/upload`, { method: 'POST', json });
  const offset = status.contiguousBytes;
  if (offset > 0 && fileOf(place, job) !== identityOf(file))
    throw new ApiError(
      'upload-offset',
      `job ${job} is uploading another file, or that of another browser, under this name: cancel it, or take another name`,
      409,
    );
  localStorage.setItem(storedAt(place), `${job} ${identityOf(file)}`);
  return { job, offset };
}

/** Whether a job has ended well: what the last answer would have told, had it come. */
const isDone = (job: number | undefined): Promise<boolean> =>
  job === undefined
    ? Promise.resolve(false)
    : call<Job>(`/jobs/${job}`).then(
        ({ state }) => state === 'done',
        () => false,
      );

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
    request.open('PUT', `${dataUrl(place, { as: 'image' })}${query}`);
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
export async function upload(
  place: VolumePlace,
  file: File,
  format: string | undefined,
): Promise<'done' | 'cancelled'> {
  if (uploads.now.some((each) => keyOf(each) === referenceOf(place) && isGoing(each)))
    throw new ApiError('volume-in-use', 'this page is uploading to it already', 409);
  const abort = new AbortController();
  let now: PageUpload = { place, file, doneBytes: 0, state: 'running' };
  const change = (changes: Partial<PageUpload>): void => {
    now = { ...now, ...changes };
    // Of one who has signed out nothing is shown any more.
    if (aborts.get(keyOf(now)) === abort) set(now);
  };
  aborts.set(keyOf(now), abort);
  change({});
  let job: number | undefined;
  const query = `&onlyNew=true${format === undefined ? '' : `&format=${encodeURIComponent(format)}`}`;
  for (let pauseMs = 1000; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
    try {
      const begun = await begin(place, file, format);
      job = begun.job;
      const { offset } = begun;
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
      localStorage.removeItem(storedAt(place));
      change({ state: 'done', doneBytes: file.size });
      return 'done';
    } catch (error) {
      const { code, message } = error as ApiError;
      if (abort.signal.aborted) {
        change({ state: 'cancelled' });
        return 'cancelled';
      }
      if (code === 'volume-exists' && (await isDone(job))) {
        localStorage.removeItem(storedAt(place));
        change({ state: 'done', doneBytes: file.size });
        return 'done';
      }
      if (!PASSING.has(code)) {
        change({ state: 'failed', reason: message });
        throw error;
      }
      change({ state: 'waiting', reason: message });
      await Promise.race([
        new Promise((resolve) => setTimeout(resolve, pauseMs)),
        new Promise((resolve) => abort.signal.addEventListener('abort', resolve, { once: true })),
      ]);
      if (abort.signal.aborted) {
        change({ state: 'cancelled' });
        return 'cancelled';
      }
    }
  }
}

/** Stops an upload and gives up what was sent. */
export async function cancelUpload(running: PageUpload): Promise<void> {
  aborts.get(keyOf(running))?.abort();
  await call(`${volumePath(running.place)}/upload`, { method: 'DELETE' });
}
