import type { NewVolume, Snapshot, VolumeFormat } from '../../shared/conf/volume.ts';
import type { Part } from '../../shared/transfer/chunks.ts';
import type { Source } from '../../shared/transfer/source.ts';
import type { WipeAlgorithm } from './wipe.ts';

/** What a look at a volume's bytes tells. */
export interface FormatFacts {
  /** Logical size, what the guest sees. */
  capacityBytes: number;
  /** Bytes taken on disk by all its files. */
  allocationBytes: number;
  snapshotCount: number;
  /** As the header says; never opened. */
  backingStore?: string;
}

/** Snapshots inside one volume. Ids are the format's own: GUIDs for ploop, names for qcow2. */
export interface SnapshotDriver {
  list(path: string): Promise<Snapshot[]>;
  /** Throws `snapshot-exists`. Gives the id. */
  create(path: string, id?: string): Promise<string>;
  /** Throws the present content away. Throws `snapshot-not-found`. */
  switch(path: string, id: string): Promise<void>;
  delete(path: string, id: string, signal?: AbortSignal): Promise<void>;
}

/**
 * How the bytes of one volume are laid out, read, written and grown. A path names a file or, for formats that are
 * directories, the directory; it was resolved beneath its pool before, links refused. New objects are made durable
 * before a method returns, and after an error nothing of them is left.
 */
export interface FormatDriver {
  readonly name: VolumeFormat;
  readonly isDirectory: boolean;
  facts(path: string): Promise<FormatFacts>;
  /** Makes an empty volume at a path that does not exist. */
  create(path: string, volume: NewVolume, signal?: AbortSignal): Promise<void>;
  /** Raises the capacity; lower only with `shrink` and where the format can, else `shrink-refused`. */
  resize(path: string, capacityBytes: number, shrink: boolean): Promise<void>;
  /** A full copy at a path that does not exist, sharing blocks where the file system can. */
  clone(source: string, target: string, signal?: AbortSignal): Promise<void>;
  /** Overwrites all content; capacity and format stay. */
  wipe(path: string, algorithm: WipeAlgorithm, signal?: AbortSignal): Promise<void>;
  /** The files that make up the stored image. Throws where they cannot be moved as one stream of bytes. */
  imageParts(path: string): Promise<Part[]>;
  /** What a stored image must not be: called with its first bytes as soon as they are there. Throws `invalid-image`. */
  inspect(head: Buffer, part: Part, parts: readonly Part[]): void;
  /** Makes a received image a volume: the last check of the whole, missing metadata written. Throws `invalid-image`. */
  adopt(path: string): Promise<void>;
  /** What the guest sees. `scratch` is a directory for temporary files, removed by the caller. */
  openContent(path: string, scratch: string, signal?: AbortSignal): Promise<Source>;
  /** Makes a volume at `path`, which does not exist, from content in the raw file `content`, which the caller removes. */
  fromContent(content: string, path: string, volume: NewVolume, signal?: AbortSignal): Promise<void>;
  /** Throws `volume-mounted` when a guest uses the volume now, as far as this host can tell. */
  refuseMounted?(path: string): Promise<void>;
  readonly snapshots?: SnapshotDriver;
}
