import { z } from 'zod';

/** Something that lies in a pool and is no volume of anybody. */
export const orphanSchema = z.object({
  /** A path on the host, or the name of a device of the pool's storage. */
  path: z.string(),
  /** What it is and how it may have come there, as far as that can be told. */
  what: z.string(),
  /** The agent that made it; absent for what no agent made, or where that cannot be told. */
  agentId: z.string().optional(),
  /** Last change, ms since the epoch. */
  modifiedAt: z.int().nonnegative().optional(),
  /** Absent for a directory that has too many entries to count, or that cannot be read. */
  allocationBytes: z.int().nonnegative().optional(),
  /** What refers to a file: volumes that stand on it, domains that have it as a disk. Of a device that is not told. */
  users: z.array(z.string()).default([]),
});
export type Orphan = z.output<typeof orphanSchema>;

/** An agent tells of so many at most. */
export const MOST_ORPHANS = 20_000;
export const orphansSchema = z.array(orphanSchema).max(MOST_ORPHANS);
