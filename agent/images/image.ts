import type { Source, SourceExtent } from '../../shared/transfer/source.ts';

export type Extent = SourceExtent;

/**
 * One open volume, or part of one: a file, a block device, or what a server gives out. Offsets and lengths are bytes. Who
 * opened it for reading only gets errors from the methods that write.
 */
export interface Image extends Source, AsyncDisposable {
  /** A name by which tools of this host open the same bytes for as long as this is open; absent where there is none. */
  readonly toolPath?: string;
  /** Learns which size a tool has given it. Absent where none could. */
  refreshSize?(): Promise<void>;
  /** Where relative names in it start from. */
  readonly directory?: string;
  /** Where nothing was written it may hold anything: what shall read as zeros must be zeroed. Absent: it reads as zeros. */
  readonly uninitialised?: boolean;
  /** Whether what it was opened of was changed since; absent where only the mark of the volume tells. */
  isChanged?(): Promise<boolean>;
  /** What the bytes take of the storage now. */
  allocationBytes(): Promise<number>;
  /** Durable only after {@link flush}. */
  write(bytes: Uint8Array, offset: number): Promise<void>;
  /** Makes a range read as zeros. `dense`: by writing them, never by a hole. */
  zero(offset: number, length: number, dense?: boolean): Promise<void>;
  /** Whether {@link zero}, not dense, gives blocks back to the storage. Absent: it does not. */
  canFree?(): boolean;
  /** Settles when all that was written is durable. */
  flush(): Promise<void>;
  /** Cuts or lengthens it; what is new reads as zeros. Absent where the storage decides on the size. */
  setSize?(sizeBytes: number): Promise<void>;
}
