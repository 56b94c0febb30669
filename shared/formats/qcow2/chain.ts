import { dirname, resolve } from 'node:path';

/** No chain of images is longer; one that leads back to itself is. */
export const LONGEST_CHAIN = 64;

/**
 * The files that the text of a backing store in an image at `path` names: a path, `file:…`, or `json:{…}` with whatever in
 * it is an absolute path.
 */
export function backingFiles(path: string, backingStore: string): string[] {
  if (backingStore.startsWith('json:'))
    return [...backingStore.matchAll(/"(\/[^"]*)"/g)].map(([, found]) => found!);
  return [resolve(dirname(path), backingStore.replace(/^file:(?:\/\/(?=\/))?/, ''))];
}
