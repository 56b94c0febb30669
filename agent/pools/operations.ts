import type { ReceivedIdentity, ReceivedStream, SentStream } from '../../shared/conf/stream.ts';
import type { WipedPart } from '../../shared/conf/trash.ts';
import type { Finding, MappedVolume, Snapshot, Volume, VolumeAttributes } from '../../shared/conf/volume.ts';
import type { WipeAlgorithm } from '../../shared/conf/wipe-algorithms.ts';
import type { Layout, TransferSpec } from '../../shared/protocol/agent.ts';
import type { Reading } from '../../shared/protocol/reading.ts';
import type { OpenedSource } from '../../shared/transfer/source.ts';
import type { FoundOrphan, Space, StreamProgram } from '../backends/backend.ts';
import type { WantedVolume } from '../formats/format.ts';
import type { Image } from '../images/image.ts';

/** What is on record of a volume that is not in its pool now. */
export type KnownVolume = Pick<
  Volume,
  'id' | 'format' | 'encryption' | 'parentId' | 'isBase' | 'baseId' | 'notes'
>;

/** Something that changed in a pool, whoever changed it. */
export interface PoolChange {
  volumes: Volume[];
  gone: { name: string; id: string }[];
}

/**
 * A volume opened for reading. `checkUnchanged` throws `volume-in-use` when somebody outside changed the bytes since it was
 * opened: what was read then is not one state of the volume.
 */
export interface OpenedVolume extends OpenedSource, AsyncDisposable {
  readonly layout: Layout;
}

/** How a volume is to be opened. `passphrase` is what an encrypted one is opened with. */
export type Opening = Reading & { passphrase?: string };

/** A stage of a transfer, as the core gives it out. */
export interface OpenedStage extends AsyncDisposable {
  readonly spec: TransferSpec;
  readonly sealed: boolean;
  /** What {@link seal} was given. */
  readonly note: string | undefined;
  readonly touchedAt: number;
  images(): Promise<readonly Image[]>;
  journal(): Promise<Image>;
  seal(note: string, passphrase?: string, signal?: AbortSignal): Promise<void>;
  /** Gives the volume its name and forgets the stage. Repeatable. */
  publish(): Promise<Volume>;
  drop(): Promise<void>;
}

/**
 * What can be done in one pool, wherever its storage is worked on: in this process, or in one of its own. Every method that
 * names a volume costs by that volume alone, but for the removal of a base, before which its clones are looked for.
 */
export interface PoolOperations {
  build(overwrite?: boolean): Promise<void>;
  /** Makes the pool usable and looks at everything in it; what it finds is told as changes before this settles. */
  start(): Promise<void>;
  stop(): Promise<void>;
  delete(): Promise<void>;
  /** Looks at everything anew. Settles when a look that began after the call is done. */
  refresh(): Promise<void>;
  space(): Promise<Space>;
  /** Looks at one volume anew. Throws `volume-not-found`. */
  look(name: string): Promise<Volume>;
  /**
   * From now on every change of a volume of this name throws `volume-changed` where it has another id; undefined: whatever it has. What
   * makes a volume of the name is not concerned. Forgotten with the process of the pool.
   */
  expect(name: string, id: string | undefined): Promise<void>;

  /** `passphrase` is what an encrypted volume is made, or opened, with. Throws `secret-missing`, `secret-refused`. */
  create(volume: WantedVolume, signal?: AbortSignal): Promise<Volume>;
  /** Throws `volume-has-snapshots` for a volume that has some, unless they are to go with it. */
  remove(name: string, options?: { etag?: string; deleteSnapshots?: boolean }): Promise<void>;
  /** Takes a volume aside under an id, with its snapshots, when it is the state of `etag`; see {@link PoolDriver.trash}. */
  trash(name: string, id: string, etag: string): Promise<void>;
  /** Gives what was taken aside a name; it is the same volume as `was`. Throws `volume-exists`, `volume-not-found`. */
  restore(id: string, name: string, was: KnownVolume): Promise<Volume>;
  /** See {@link PoolDriver.wipeTrashed}. */
  wipeTrashed(id: string, fromBytes: number, mostBytes: number): Promise<WipedPart>;
  purge(id: string): Promise<void>;
  /** The ids of what was taken aside. */
  trashed(): Promise<string[]>;
  /** What lies in the pool and is no volume. */
  orphans(): Promise<FoundOrphan[]>;
  resize(
    name: string,
    capacityBytes: number,
    shrink: boolean,
    passphrase?: string,
    signal?: AbortSignal,
  ): Promise<Volume>;
  /** A full copy. */
  clone(name: string, target: string, signal?: AbortSignal): Promise<Volume>;
  /** A new volume that stands on a base, or on a snapshot of any volume. Throws `invalid-argument` where the source is no base. */
  cloneLinked(name: string, target: string, snapshot?: string, signal?: AbortSignal): Promise<Volume>;
  /** See {@link PoolDriver.setBase}. Throws `volume-has-clones` for a base that volumes of the pool stand on. Repeatable. */
  setBase(name: string, isBase: boolean): Promise<Volume>;
  /** It is the same volume under its new name. Throws `volume-exists`, `volume-has-clones`. */
  rename(name: string, target: string): Promise<Volume>;
  /** What is absent stays as it is; empty notes are none. */
  setAttributes(name: string, attributes: VolumeAttributes): Promise<Volume>;
  /** Puts on record which secret opens an encrypted volume, once its passphrase has. Throws as {@link open} does. */
  setSecret(name: string, secret: string, passphrase: string | undefined): Promise<Volume>;
  wipe(name: string, algorithm: WipeAlgorithm, passphrase?: string, signal?: AbortSignal): Promise<Volume>;
  listSnapshots(name: string): Promise<Snapshot[]>;
  createSnapshot(name: string, id?: string): Promise<string>;
  switchSnapshot(name: string, id: string): Promise<void>;
  deleteSnapshot(name: string, id: string, signal?: AbortSignal): Promise<void>;
  /** Throws `snapshot-not-found`, `snapshot-exists`, `invalid-name`, `not-supported` where its storage keeps it in the volume. */
  renameSnapshot(name: string, id: string, to: string): Promise<void>;
  check(name: string, repair: boolean, signal?: AbortSignal): Promise<Finding[]>;
  /** See {@link PoolDriver.map}. */
  map(name: string): Promise<MappedVolume>;
  /** See {@link PoolDriver.unmap}. */
  unmap(name: string): Promise<string[]>;
  /** See {@link PoolDriver.mappedAs}; undefined also where the storage itself says what is open. */
  mappedAs(name: string): Promise<string | undefined>;
  /** Throws `volume-in-use` while the volume is mapped on this host. */
  refuseMapped(name: string): Promise<void>;

  /** Throws `snapshot-not-found`, `secret-missing`, `secret-refused`; `not-supported` for a snapshot that is to be read as an image. */
  open(name: string, opening: Opening, signal?: AbortSignal): Promise<OpenedVolume>;
  /** See {@link PoolDriver}, which this is of one volume by its name. Throws `not-supported` for one that is not raw. */
  beginSending(name: string, stream: SentStream): Promise<StreamProgram>;
  /** Throws `volume-exists`; with `base`, as {@link PoolDriver.beginReceivingOnto} does. */
  beginReceiving(name: string, stream?: ReceivedStream): Promise<StreamProgram>;
  endReceiving(
    id: string,
    name: string,
    stream: ReceivedStream,
    identity?: ReceivedIdentity,
    signal?: AbortSignal,
  ): Promise<Volume>;
  dropStream(id: string): Promise<void>;
  /** Throws what {@link stage} would for a new transfer, as far as that can be told without making its stage. */
  refuseStage(spec: TransferSpec): Promise<void>;
  /** Begins the stage of a transfer, the same one again for the same id. Throws `job-state` when it was committed before. */
  stage(spec: TransferSpec): Promise<OpenedStage>;
  /** The stage of a transfer, or all. */
  stages(id?: string): Promise<OpenedStage[]>;
  dropStage(id: string): Promise<void>;
  /** The volume that a transfer became, when it was committed before. */
  committed(transfer: string): Promise<Volume | undefined>;
}
