import { constants } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';

/** Where the configurations of hypervisors are looked for: `/` but in tests. */
export const configurationRoot = (): string => process.env.STOWAGE_GUESTS_ROOT ?? '/';

/** No configuration is larger. */
const MOST_BYTES = 16 << 20;

/** A file of somebody's configuration: the name before its ending, and its text. */
export interface Configuration {
  name: string;
  text: string;
}

/** Nothing is there, or is not any more. Whatever else keeps a file from being read is no sign that there is none. */
export function unlessAbsent(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error;
}

/** The text of a file; undefined where there is none. */
export async function readConfiguration(path: string): Promise<string | undefined> {
  // A pipe that nobody writes to would never answer.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(unlessAbsent);
  if (!file) return undefined;
  try {
    const stat = await file.stat();
    if (!stat.isFile()) throw new Error(`${path} is no regular file`);
    if (stat.size > MOST_BYTES) throw new Error(`${path} has more than ${MOST_BYTES >> 20} MiB`);
    // What no path and no database can hold is no part of a name.
    return (await file.readFile('utf8')).replaceAll('\0', '\ufffd');
  } finally {
    await file.close();
  }
}

/** The files of a directory that end so; none where there is no directory. */
export async function readConfigurations(directory: string, ending: string): Promise<Configuration[]> {
  const names = (await readdir(directory).catch(unlessAbsent)) ?? [];
  const files: Configuration[] = [];
  for (const name of names.sort()) {
    if (!name.endsWith(ending) || name.length === ending.length) continue;
    const text = await readConfiguration(join(directory, name));
    if (text !== undefined) files.push({ name: name.slice(0, -ending.length), text });
  }
  return files;
}
