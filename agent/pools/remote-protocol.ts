import type { PoolDefinition } from '../../shared/conf/pool.ts';
import type { PoolChange, PoolOperations } from './operations.ts';

/** What the process of a pool is told first. */
export interface WorkerSettings {
  definition: PoolDefinition;
  agentId: string;
  stateDirectory: string;
  imageDirectories: string[];
  /** Of the pool's source; absent where it has none, or the agent was not given it. */
  secret?: string;
}

/** To the process of a pool. `object` 0 is the pool; others are what answers gave out. */
export type ToWorker =
  | { type: 'open'; settings: WorkerSettings }
  | { type: 'call'; id: number; object: number; method: string; args: unknown[]; signal: boolean }
  | { type: 'abort'; id: number };

/** A handle on something that lives in the process of the pool, with what it says of itself. */
export interface RemoteHandle {
  handle: number;
  facts: Record<string, unknown>;
}

export interface RemoteError {
  name: string;
  message: string;
  code: string | undefined;
  stowage: boolean;
}

/** From the process of a pool. */
export type FromWorker =
  | { type: 'opened'; error?: RemoteError }
  | { type: 'result'; id: number; value?: unknown; error?: RemoteError }
  | { type: 'change'; change: PoolChange }
  | { type: 'failed'; error: RemoteError };

/** Methods of a pool whose arguments and answers are plain data. */
export const PLAIN_METHODS = [
  'build',
  'start',
  'stop',
  'delete',
  'refresh',
  'space',
  'look',
  'expect',
  'create',
  'remove',
  'trash',
  'restore',
  'wipeTrashed',
  'purge',
  'trashed',
  'orphans',
  'resize',
  'clone',
  'cloneLinked',
  'setBase',
  'rename',
  'setAttributes',
  'setSecret',
  'wipe',
  'listSnapshots',
  'createSnapshot',
  'switchSnapshot',
  'deleteSnapshot',
  'renameSnapshot',
  'check',
  'map',
  'unmap',
  'mappedAs',
  'refuseMapped',
  'refuseStage',
  'beginSending',
  'beginReceiving',
  'endReceiving',
  'dropStream',
  'dropStage',
  'committed',
] as const satisfies readonly (keyof PoolOperations)[];
