import { appendFileSync, closeSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Ground } from './suite.ts';

/** What somebody with a shell does to the files of a pool. */
export function filesOutside(directory: string): NonNullable<Ground['outside']> {
  const at = (name: string): string => join(directory, name);
  return {
    make: (name, bytes) => writeFileSync(at(name), bytes),
    change: (name) => appendFileSync(at(name), Buffer.alloc(4096, 1)),
    rename: (from, to) => renameSync(at(from), at(to)),
    remove: (name) => rmSync(at(name)),
  };
}

/** Keeps something open, as a guest does. */
export function holdOpen(path: string): Disposable {
  const fd = openSync(path, 'r');
  return { [Symbol.dispose]: () => closeSync(fd) };
}
