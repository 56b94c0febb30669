import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Domain } from '../../shared/protocol/domains.ts';

/** A file of somebody's configuration: the name before its ending, and its text. */
export interface Configuration {
  name: string;
  text: string;
}

/** The files of a directory that end so; none where there is no directory. */
export async function readConfigurations(directory: string, ending: string): Promise<Configuration[]> {
  const names = await readdir(directory).catch(() => []);
  const files = await Promise.all(
    names
      .filter((name) => name.endsWith(ending) && name.length > ending.length)
      .sort()
      .map(async (name) => ({
        name: name.slice(0, -ending.length),
        // Gone since: nothing is there to be read.
        text: await readFile(join(directory, name), 'utf8').catch(() => undefined),
      })),
  );
  return files.flatMap(({ name, text }) => (text === undefined ? [] : [{ name, text }]));
}

/**
 * A domain whose configuration nobody here understands. Whatever in it looks like a path counts as used: better a volume is
 * kept that could go than the other way round.
 */
export function unreadable(origin: Domain['origin'], { name, text }: Configuration, error: unknown): Domain {
  const why = error instanceof Error ? error.message : String(error);
  const paths = new Set([...text.matchAll(/["'](\/[^"'<>\n]+)["']/g)].map(([, path]) => path));
  const images = [...paths].map((path) => ({ target: '?', role: 'disk' as const, path }));
  return { name, origin, state: 'unknown', persistent: true, images, unreadable: why };
}
