import type { Finding, NewVolume, Snapshot, Volume, VolumeFormat } from '../../shared/conf/volume.ts';
import type { WipeAlgorithm } from '../../shared/conf/wipe-algorithms.ts';
import type { Part } from '../../shared/transfer/chunks.ts';
import type { Source } from '../../shared/transfer/source.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { formatBytes } from '../../shared/util/units.ts';
import type { Image } from '../images/image.ts';

/** What a new volume shall be, and what it is encrypted with. */
export type WantedVolume = NewVolume & { passphrase?: string };

/** Throws `shrink-refused` where a capacity is smaller than that of a volume, unless that was asked for. */
export function refuseShrink(nowBytes: number, capacityBytes: number, shrink: boolean): void {
  if (capacityBytes >= nowBytes || shrink) return;
  throw new StowageError(
    'shrink-refused',
    `the volume has ${nowBytes} bytes (${formatBytes(nowBytes)}); ${formatBytes(capacityBytes)} would cut off its end, which must be asked for`,
  );
}

/** What a look at a volume's bytes tells. */
export interface FormatFacts
  extends Pick<
    Volume,
    'capacityBytes' | 'snapshotCount' | 'backingStore' | 'compat' | 'clusterBytes' | 'features' | 'encryption'
  > {}

/** Snapshots inside one volume. Ids are the format's own: GUIDs for ploop, names for qcow2. */
export interface SnapshotDriver<T> {
  list(volume: T): Promise<Snapshot[]>;
  /** Throws `snapshot-exists`. Gives the id. */
  create(volume: T, id?: string): Promise<string>;
  /** Throws the present content away. Throws `snapshot-not-found`. */
  switch(volume: T, id: string): Promise<void>;
  delete(volume: T, id: string, signal?: AbortSignal): Promise<void>;
  /**
   * Tells a snapshot, and the places that it is read from, from a later one of its id. Throws `snapshot-not-found`, `invalid-argument` for
   * what can be no id.
   */
  markOf(volume: T, id: string): Promise<string>;
  /**
   * What the guest saw at a snapshot: the same, whoever writes to the volume meanwhile. Closing it closes what it opened, not `volume`.
   * Throws as {@link markOf} does.
   */
  openContent(volume: T, id: string, openBacking: OpenBacking): Promise<Source>;
}

/** Opens what an image stands on, by what its header says. Throws for what must not be read. */
export type OpenBacking = (backing: NonNullable<Volume['backingStore']>) => Promise<Image>;

/**
 * How the bytes of one volume are laid out, read, written and grown. A volume is an open image or, for formats that are
 * directories, the path of the directory. New volumes are durable before a method returns.
 */
export interface FormatDriver<T> {
  readonly name: VolumeFormat;
  facts(volume: T): Promise<FormatFacts>;
  /** Lays an empty volume into an image that was just made, or makes the directory. */
  create(volume: T, wanted: WantedVolume, signal?: AbortSignal): Promise<void>;
  /** Raises the capacity; lower only with `shrink` and where the format can, else `shrink-refused`. */
  resize(
    volume: T,
    capacityBytes: number,
    shrink: boolean,
    options?: { signal?: AbortSignal; passphrase?: string },
  ): Promise<void>;
  /** Makes a received image a volume: the last check of the whole, missing metadata written. Throws `invalid-image`. */
  adopt(volume: T): Promise<void>;
  /** What a stored image must not be: called with its first bytes as soon as they are there. Throws `invalid-image`. */
  inspect(head: Buffer, part: Part, parts: readonly Part[]): void;
  /**
   * What the guest sees. Closing it closes what it opened, not `volume`. Throws `secret-missing` and `secret-refused` for one that is
   * encrypted, where `passphrase` is absent and where it is wrong.
   */
  openContent(volume: T, openBacking: OpenBacking, passphrase?: string): Promise<Source>;
  /** Throws `secret-missing` and `secret-refused` as {@link openContent} does. Absent: its volumes are never encrypted. */
  unlock?(volume: T, passphrase: string | undefined): Promise<void>;
  /** Makes a volume of a raw image, in what `create` would begin with. */
  fromContent(content: Image, volume: T, wanted: WantedVolume, signal?: AbortSignal): Promise<void>;
  /** What is wrong with it. With `repair` what can be mended is mended; else nothing is changed. */
  check?(volume: T, repair: boolean, signal?: AbortSignal): Promise<Finding[]>;
  readonly snapshots?: SnapshotDriver<T>;
}

/** A format whose volumes are one image each. */
export interface ImageFormat extends FormatDriver<Image> {
  /** Whether an empty volume of this capacity is nothing but zeros of that size. */
  readonly plain: boolean;
  /** Its capacity is what its image has room for: nothing inside says it. */
  readonly sizedByImage: boolean;
  /** Its images lie in files alone, which grow as they are written. */
  readonly filesOnly?: boolean;
  /** What an image of a capacity takes at most: the room that it needs where it cannot grow. */
  mostBytes(
    capacityBytes: number,
    options?: Pick<FormatFacts, 'clusterBytes' | 'features' | 'encryption'>,
  ): number;
}

/** A format whose volumes are directories. */
export interface DirectoryFormat extends FormatDriver<string> {
  /** A full copy at a path that does not exist. */
  clone(source: string, target: string, signal?: AbortSignal): Promise<void>;
  /** Overwrites all content. A cancel or a kill leaves a sound, empty volume or the old one. */
  wipe(path: string, algorithm: WipeAlgorithm, signal?: AbortSignal): Promise<void>;
  /** The files that make up the stored image. */
  imageParts(path: string): Promise<Part[]>;
  /** Throws `volume-mounted` when a guest uses the volume now, as far as this host can tell. */
  refuseMounted(path: string): Promise<void>;
}
