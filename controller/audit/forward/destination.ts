import type { AuditRecord } from '../../../shared/protocol/api.ts';

/** Where records of the trail go as they are made. After an error, and after {@link close}, everything may be called again. */
export interface Destination {
  /** How people name it, the same over restarts: up to where it has the trail is kept under it. */
  readonly name: string;
  /** So long records are gathered before {@link confirm} is asked for, ms. */
  readonly gatherMs: number;
  /** The last record that it has, where it can tell; changes nothing. Throws while it cannot be reached. */
  last(signal: AbortSignal): Promise<Pick<AuditRecord, 'seq' | 'hash'> | undefined>;
  /** Takes records, which are in order and follow those that it has. Throws where it may not have all of them. */
  take(records: readonly AuditRecord[], signal: AbortSignal): Promise<void>;
  /** Settles when all that was taken is there for certain. Throws where some may be lost. */
  confirm(signal: AbortSignal): Promise<void>;
  /** Lets go of what is open. */
  close(): Promise<void>;
}
