import type { Part } from './chunks.ts';

/** A range that may hold data; what lies between two ranges reads as zeros. */
export interface SourceExtent {
  offset: number;
  length: number;
}

/** Bytes that can be read anywhere, with knowledge of where there are none. Offsets and lengths are bytes. */
export interface Source {
  readonly sizeBytes: number;
  /** The data ranges inside `[from, to)`, in order and without overlap. */
  extents(from: number, to: number): AsyncIterable<SourceExtent>;
  /** Fills the whole buffer from `offset`. */
  read(buffer: Uint8Array, offset: number): Promise<void>;
  close(): Promise<void>;
}

/** A volume, or a file, that is open to be sent. */
export interface OpenedSource {
  readonly layout: { readonly parts: readonly Part[]; readonly etag: string };
  /** One for each part of the layout. */
  readonly sources: readonly Source[];
  /** Throws when it is not what it was when it was opened: `volume-in-use` for a volume or a snapshot, `volume-changed` for a file. */
  checkUnchanged(): Promise<void>;
}
