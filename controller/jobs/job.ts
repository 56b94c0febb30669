import type { z } from 'zod';
import type { ErrorCode } from '../../shared/util/errors.ts';
import type { AgentClient } from '../hosts/agent-client.ts';
import type { Inventory } from '../inventory/inventory.ts';
import type { Passphrases } from '../secrets/passphrases.ts';
import type { LeaseMode } from '../store/repositories/leases.ts';

/** What a step works with. */
export interface JobContext<Params, Notes> {
  readonly jobId: number;
  readonly params: Params;
  /** What steps found out; {@link save} makes it outlive a restart. */
  notes: Partial<Notes>;
  save(): Promise<void>;
  /** Ends when the job is cancelled or paused, or the controller stops. */
  readonly signal: AbortSignal;
  /** Ends only when nothing more may be done here: for what is not to be cancelled, such as a commit. */
  readonly halt: AbortSignal;
  readonly inventory: Inventory;
  agent(host: string): Promise<AgentClient>;
  /** Under which addresses the controller itself knows a host; what its agent says of that does not count. */
  addresses(host: string): Promise<string[]>;
  readonly passphrases: Passphrases;
  /** The fencing token of the lease that the job holds on a volume. */
  fence(volume: string): Promise<number>;
  /** Puts on record what the agent of a host claims to have seen; beyond a number of claims nothing. */
  claim(host: string, text: string): void;
  progress(doneBytes: number, totalBytes: number, wireBytes: number): void;
}

/** One step. Idempotent: after a kill it is run again from its beginning. */
export interface JobStep<Params, Notes> {
  readonly name: string;
  run(context: JobContext<Params, Notes>): Promise<void>;
}

/** A kind of durable work. Everything before `commitStep` ends can be undone; what follows only goes forward. */
export interface JobKind<Params extends object, Notes> {
  readonly kind: string;
  readonly params: z.ZodType<Params>;
  /** The volumes it is about, `host/pool/volume`. */
  places(params: Params): { source?: string; target: string };
  /** The leases held from the beginning to the end. */
  leases(params: Params): { volume: string; mode: LeaseMode }[];
  readonly steps: readonly JobStep<Params, Notes>[];
  /** The step with which the job cannot be undone any more; absent where it always can. */
  readonly commitStep?: string;
  /** Takes back what steps before the commit made. What it cannot reach is collected later. */
  undo?(context: JobContext<Params, Notes>): Promise<void>;
}

/** Errors that pass by themselves: the step is tried again. */
export const TRANSIENT: ReadonlySet<ErrorCode> = new Set(['host-unreachable', 'stream-cut', 'agent-start']);
