import type { Job } from './api.ts';

/** What a job does, as the command calls it: a migration that keeps its source is a copy. */
export const taskOf = ({ kind, params }: Pick<Job, 'kind' | 'params'>): string =>
  !kind.startsWith('migrate') ? kind : params.keepSource === true ? 'copy' : 'migrate';
