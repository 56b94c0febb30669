import type { Job } from './api.ts';

/** Kinds of jobs that move a volume, or copy it. */
const MOVES: readonly string[] = ['migrate', 'migrate-stream'];

/** What a job does, as the command calls it: a migration that keeps its source is a copy. */
export const taskOf = ({ kind, params }: Pick<Job, 'kind' | 'params'>): string =>
  !MOVES.includes(kind) ? kind : params.keepSource === true ? 'copy' : 'migrate';
