import type { AuditRecord } from '../../../shared/protocol/api.ts';

/** Where records of the trail go as they are made. */
export interface Destination {
  /** How people name it, the same over restarts: up to where it has the trail is kept under it. */
  readonly name: string;
  /** So long after {@link take} it may still turn out that records did not arrive: they are sent again then. 0: never. */
  readonly doubtMs: number;
  /** The last record that it has, where it can tell. Throws while it cannot be reached. */
  last(signal: AbortSignal): Promise<Pick<AuditRecord, 'seq' | 'hash'> | undefined>;
  /** Settles when it has the records, which are in order. Throws where it may not have all of them. */
  take(records: readonly AuditRecord[], signal: AbortSignal): Promise<void>;
  /** Throws when something that {@link take} gave may have been lost since. */
  check(): void;
  /** Lets go of what is open. After it, and after an error, everything may be called again. */
  close(): Promise<void>;
}
