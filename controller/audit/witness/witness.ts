import { Dispute } from '../duty.ts';

/** It has signed, at a time (ms since the epoch); or it has seen the trail up to another record than it was told. */
export type Answer = { signatures: string; at: number } | { seq: number };

/** One that sees the trail grow, from outside, and remembers what it has seen. */
export interface Witness {
  /** How people name it. */
  readonly name: string;
  /** New records are shown to it so often, ms. */
  readonly lookMs: number;
  /**
   * Shows it a signed checkpoint, with the proof that the trail begins as it was up to record `old` (0: it has seen nothing, and there is no
   * proof). Throws {@link Dispute} where it does not believe that.
   */
  show(old: number, proof: readonly Buffer[], note: string, signal: AbortSignal): Promise<Answer>;
}

export const otherRoot = (old: number): Dispute =>
  new Dispute(`up to record ${old} it has seen another trail than there is now`);
export const inconsistent = (old: number): Dispute =>
  new Dispute(`what it has seen up to record ${old} is not how the trail begins now`);
