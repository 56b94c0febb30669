import { Option } from 'commander';
import type { Job } from '../../shared/protocol/api.ts';
import { parseSize } from '../../shared/util/units.ts';
import { callJson } from './client.ts';

export interface FreeingOptions {
  wipe?: boolean;
  limit?: string;
}

/** The options of commands that delete volumes, for overwriting what these held. */
export const freeingOptions = {
  wipe: () => new Option('--wipe', 'a job overwrites with zeros what was in it, and deletes it then'),
  limit: () => new Option('--limit <rate>', 'with --wipe: at most so many bytes a second, such as 50M'),
};

/** Begins the job at a path of the API that overwrites and deletes. Gives its number. */
export async function beginFreeing(path: string, limit: string | undefined): Promise<number> {
  const limitBytesPerSecond = limit === undefined ? undefined : parseSize(limit.replace(/\/s$/, ''));
  return (await callJson<Job>(path, { method: 'POST', json: { limitBytesPerSecond } })).id;
}

/** As {@link beginFreeing}. Gives what is to be said of the volume. */
export async function freeByJob(path: string, limit: string | undefined): Promise<string> {
  return `deleted; job ${await beginFreeing(path, limit)} overwrites what it held`;
}
