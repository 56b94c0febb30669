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
  wipe: () => new Option('--wipe', 'overwrite with zeros what it held, by a job; the name is free at once'),
  limit: () => new Option('--limit <rate>', 'with --wipe: at most so many bytes a second, such as 50M'),
};

/** Begins the job at a path of the API that overwrites and deletes. Gives what is to be said of the volume. */
export async function freeByJob(path: string, limit: string | undefined): Promise<string> {
  const limitBytesPerSecond = limit === undefined ? undefined : parseSize(limit.replace(/\/s$/, ''));
  const { id } = await callJson<Job>(path, { method: 'POST', json: { limitBytesPerSecond } });
  return `deleted; job ${id} overwrites what it held`;
}
