import type { NodeDeviceKind } from '../../shared/conf/node-device.ts';
import type { Orphan } from '../../shared/conf/orphan.ts';
import type { PoolDefinition } from '../../shared/conf/pool.ts';
import type { MetadataSpace } from '../../shared/conf/pool-usage.ts';
import type { FoundSource } from '../../shared/conf/sources-xml.ts';
import type { ReceivedStream, SentStream, StreamFormat } from '../../shared/conf/stream.ts';
import type { WipedPart } from '../../shared/conf/trash.ts';
import type {
  Finding,
  MappedVolume,
  Representation,
  Snapshot,
  Volume,
  VolumeAttributes,
  VolumeEncryption,
  VolumeFormat,
} from '../../shared/conf/volume.ts';
import type { WipeAlgorithm } from '../../shared/conf/wipe-algorithms.ts';
import type { Part } from '../../shared/transfer/chunks.ts';
import type { Source } from '../../shared/transfer/source.ts';
import type { WantedVolume } from '../formats/format.ts';
import type { Image } from '../images/image.ts';
import type { Layout } from '../volumes/files/layout.ts';
import type { Missing } from './missing.ts';

/** The contract below. A backend of another version is named and left aside. */
export const CONTRACT_VERSION = 2;

/** In which state of a volume something can be done with it: `transfer` of a `snapshot` is {@link PoolDriver.openSnapshot}. */
export type VolumeState = 'current' | 'snapshot' | 'base';
export type Feature =
  /** Of the pool itself: its storage can be made. */
  | 'build'
  | 'create'
  | 'delete'
  | 'trash'
  | 'rename'
  | 'resize'
  | 'shrink'
  | 'clone'
  /** It can be made a base, which takes no write. */
  | 'base'
  /** Linked clones can stand on it. */
  | 'link'
  | 'wipe'
  | 'snapshot'
  | 'transfer'
  /** What arrives goes over a volume in place: there is nowhere else. */
  | 'overwrite'
  | 'repair';

/** What a kind of storage is like. The core asks these; nothing outside a backend asks for its name. */
export interface Traits {
  /** What its volumes are: decides libvirt's volume type, and whether a disk may be a unit (`lun`). */
  volumes: 'file' | 'block' | 'network';
  /** Formats that its volumes can have, the default first. */
  formats: readonly VolumeFormat[];
  /** `exclusive`: no two pools of one host may have targets that overlap. `common`: a directory such as /dev. */
  target: 'exclusive' | 'common' | 'none';
  /** Other hosts may see, and change, the same volumes. */
  shared: boolean;
  /** Its storage may stop answering: each of its pools works in a process of its own. */
  mayHang: boolean;
  /** Volumes of every format have snapshots, of the storage; else those whose format has some. */
  rawSnapshots?: boolean;
  /** Parts of a definition, beyond source and target, that it has a use for; others are refused when a pool is defined. */
  options?: readonly ('mountOptions' | 'configOptions' | 'cow' | 'refreshAllocation')[];
  /** In which raw volumes leave and arrive as the storage itself writes them: {@link PoolDriver.beginSending}. */
  streams?: readonly StreamFormat[];
  features: Partial<Record<Feature, readonly VolumeState[]>>;
}

export interface Backend {
  /** The pool type, as libvirt names it. */
  readonly type: string;
  readonly contract: number;
  readonly traits: Traits;
  /** Of one pool, where they differ from those of its type. */
  traitsOf?(definition: PoolDefinition): Traits;
  /** Throws `invalid-argument` or `not-supported` for a definition whose source or target no such pool can have. */
  check(definition: PoolDefinition): void;
  /** Where the volumes of a pool lie below its target; absent: side by side in it, or not there at all. */
  layoutOf?(definition: PoolDefinition): Layout;
  /** Why it cannot work on this host, such as `vgs: not found`; undefined when it can. Of a plug-in a text is enough. */
  probe(): Promise<Missing | string | undefined>;
  /** What some of its pools need, such as those of one format, and this host does not have. */
  lacks?(): Promise<(Missing | undefined)[]>;
  /** What pools of this type could be made of, on this host or on the one that is named. */
  findSources?(host: string | undefined): Promise<FoundSource[]>;
  /** Which block devices of the host its pools can be made of; absent: none. */
  readonly devices?: {
    /** Kinds of which an empty one can be built on. */
    builds: readonly NodeDeviceKind[];
    /** Whether what is on one can be used as it is. */
    uses(content: DeviceContent): boolean;
  };
  /** Where {@link findSources} looks: on this host, or on one that must be named. */
  readonly findsOn?: 'host' | 'server';
  /**
   * Lets go of storage that does not answer, when its pool is stopped all the same: called in another process than that of
   * the driver, which may hang for ever. Ends in bounded time.
   */
  release?(definition: PoolDefinition): Promise<void>;
  /** A driver for one pool. Touches nothing: the pool may be inactive, or its storage away. */
  open(definition: PoolDefinition, host: HostServices): PoolDriver;
}

/** What an agent gives to a driver. */
export interface HostServices {
  /** Of the agent: random, and the same after every restart. */
  readonly agentId: string;
  /** A directory on the host's own disk, for this pool alone; made when it is first asked for. */
  stateDirectory(): Promise<string>;
  /** What its source's login is proved with, kept in memory only. Throws `secret-missing` while the agent was not given it. */
  secret(): string;
  /** False where somebody else has started the storage, and goes on with it: it is neither activated nor let go of as a whole. */
  readonly ownsStorage: boolean;
  /**
   * Runs what gives volumes names, makes or removes them, while whoever else manages the storage does not. Storage that lets of two changes
   * at once only one succeed, such as that of ZFS and Ceph, need not be worked on so.
   */
  alone<T>(work: () => Promise<T>): Promise<T>;
  /** Directories in which an image may lie that another one stands on. */
  imageDirectories(): readonly string[];
}

/** Sizes of the storage under a pool. */
export interface Space {
  capacityBytes: number;
  allocationBytes: number;
  availableBytes: number;
  /** Which storage it is: the same on every host that sees it, and no other's. Absent where that cannot be told. */
  storageId?: string;
  /** Of storage that runs full of its own notes, too. */
  metadata?: MetadataSpace;
}

/** A volume as it was found. Its id is the core's. */
export interface FoundVolume extends Omit<Volume, 'id' | 'etag'> {
  /** What opens an encrypted one: given for one call, and kept nowhere. */
  passphrase?: string;
  /** The same for one volume under every name and after every change, another for a new one of the same name. */
  fingerprint: string;
  /** Changes whenever the stored bytes may have changed. */
  mark: string;
  /** Changes with anything that a look would tell. */
  stamp: string | number;
}

/** What the first bytes of a device say, in the words of blkid(8): the type of what is on it, and of its partition table. */
export interface DeviceContent {
  fstype?: string;
  pttype?: string;
}

/** What is known of a volume from before. */
export interface Known {
  fingerprint: string;
  /** On record from when the volume was made or first seen: what a guest writes into it never changes its format. */
  format?: VolumeFormat;
  /** It was made a base. */
  isBase?: boolean;
  /** Of the last look; absent when it must be looked at anew. */
  stamp?: string | number;
}

/** What was found under a name: a volume, or that the one known is as it was. */
export type Found = FoundVolume | { name: string; unchanged: true };

/** `trashId`: what {@link PoolDriver.trash} of this agent took out; whether that is on record the core knows. */
export type FoundOrphan = Omit<Orphan, 'users'> & { trashId?: string };

/** Where the core keeps, durably, which volume has which id. */
export interface Identity extends IdentifiedState, VolumeAttributes {
  id: string;
  /** It was made a base. Storage that cannot tell that by itself is asked whether it still takes no write. */
  isBase?: boolean;
  /** See {@link Volume}. */
  baseId?: string;
  /** Before it was replaced; a kill may have kept that from happening. */
  formerly?: IdentifiedState;
}

/** What is on record of the bytes that a volume has. */
export interface IdentifiedState {
  fingerprint: string;
  /** undefined while its bytes could not be read. */
  format?: VolumeFormat;
  /** The transfer that made them. */
  transfer?: string;
  /** Which secret opens them, where they are encrypted. */
  secret?: string;
  /** The id of the base that they stand on. */
  parentId?: string;
}

export interface IdentityStore extends AsyncDisposable {
  readonly size: number;
  entries(): Iterable<[string, Identity]>;
  get(name: string): Identity | undefined;
  /** Seen by {@link get} at once; settles when it is durable. */
  set(name: string, identity: Identity): Promise<void>;
  delete(name: string): Promise<void>;
}

/** A volume opened for reading as a whole. */
export interface OpenVolume extends AsyncDisposable {
  readonly parts: readonly Part[];
  /** One for each part. */
  readonly sources: readonly Source[];
  /** So many of its snapshots are not in what is read. Absent: none. */
  readonly snapshotsLeft?: number;
  /** Whether the volume was changed since it was opened, where its storage knows better than by its mark. */
  isChanged?(): Promise<boolean>;
}

/** A snapshot opened for reading. */
export interface OpenSnapshot extends AsyncDisposable {
  /** What the guest saw then: the same, whoever writes to the volume meanwhile. */
  readonly content: Source;
  /** Tells it from a later one of its id. */
  readonly mark: string;
  /** The mark of the snapshot of its id now. Throws `snapshot-not-found`. */
  markNow(): Promise<string>;
}

/** A program of the storage, run once by the core, that writes a stream to its standard output, or reads one from its standard input. */
export interface StreamProgram {
  /** Of the stream: random. */
  id: string;
  tool: string;
  args: readonly string[];
}

/** What a stage is for. Kept with it, so that it can be taken up after a kill. */
export interface StageSpec {
  /** Of the transfer. */
  id: string;
  volume: string;
  format: VolumeFormat;
  representation: Representation;
  parts: readonly Part[];
  capacityBytes?: number;
  replace: boolean;
  /** Of what content is made into. */
  encryption?: VolumeEncryption;
  /** What is replaced must stay as it is until {@link Stage.publish}. */
  refresh?: boolean;
}

/** A place for a new volume, or for a new state of one: hidden, resumable, no volume until it is published. */
export interface Stage extends AsyncDisposable {
  readonly id: string;
  /** Everything that was given when it was begun, as JSON text. */
  readonly spec: string;
  /** Whether {@link seal} has settled, in this process or in one before. */
  readonly sealed: boolean;
  /** What {@link seal} was given. */
  readonly note: string | undefined;
  /** Last change known from before, ms since the epoch. */
  readonly touchedAt: number;
  /** The parts, open for reading and writing, in their order. Not once it is sealed. */
  images(): Promise<readonly Image[]>;
  /** A file beside the parts, for the record of what is in them. */
  journal(): Promise<Image>;
  /**
   * Makes of the received parts what will be the volume: checks it, converts content into a container, makes it durable.
   * May be repeated. From here on only {@link publish} is left to do; `note` is kept for that. `passphrase` is what content is
   * encrypted with. Throws `invalid-image`.
   */
  seal(note: string, passphrase: string | undefined, signal?: AbortSignal): Promise<void>;
  /**
   * Gives the volume its name, in one step that a kill leaves done or not done. Repeatable until {@link drop}. `identify`
   * is called with its fingerprint before the name is there, and awaited. Throws `volume-exists`.
   */
  publish(identify: (fingerprint: string) => Promise<void>): Promise<void>;
  /** Removes every trace of the stage; a published volume stays. */
  drop(): Promise<void>;
}

/** Called with the fingerprint that a volume is about to have under its name: its id is on record when it settles. */
export type Identify = (fingerprint: string) => Promise<void>;

/**
 * One pool of storage. A method that is absent means "not supported". The caller serialises changes of one volume, checks
 * names (one path component), and calls nothing but `build`, `start` and `delete` while the pool is not started. Every
 * method leaves nothing half done behind an error. An error is never read as absence.
 */
export interface PoolDriver {
  /** Makes the storage of a new pool. `overwrite` says what to do where something is there already; absent: what is safe. */
  build?(overwrite?: boolean): Promise<void>;
  /** Makes the pool usable. Throws when its storage is not there. May be repeated while work runs, and never harms it. */
  start(): Promise<void>;
  stop(): Promise<void>;
  /** Deletes the pool's storage. Throws `pool-not-empty` while volumes are in it. */
  delete?(): Promise<void>;
  space(): Promise<Space>;
  identities(): Promise<IdentityStore>;
  /**
   * The id of a volume that is not on record here, where its storage names each volume by a number that is never used again:
   * every host that sees the storage gives the volume this id. Absent or undefined: such a volume gets a random one.
   */
  idOf?(fingerprint: string): string | undefined;
  /**
   * Everything in the pool, in batches: each volume at least once, whoever made it. Nothing is opened where `known` says
   * what it is. Throws when the storage is away or anything but a single volume could not be read; empty means empty.
   */
  list(known: (name: string) => Known | undefined, signal?: AbortSignal): AsyncIterable<Found[]>;
  /**
   * One volume, at the cost of one volume; undefined when there is none of the name. Throws `path-escapes-pool` for a link,
   * `volume-damaged` for what is there and cannot be looked at.
   */
  look(name: string, known?: Known): Promise<FoundVolume | undefined>;
  /**
   * Calls back with the names that somebody made, took away or finished writing, at least once for each; with undefined
   * when that cannot be told and only {@link list} helps. Absent: nobody tells, and the core looks from time to time.
   */
  watch?(changed: (names: readonly string[] | undefined) => void): Disposable;

  /** Throws `volume-exists`, `no-space`. */
  create?(volume: WantedVolume, identify: Identify, signal?: AbortSignal): Promise<void>;
  /**
   * With `mark`, only that state of the volume, else `volume-changed`. `confirm` may be called when the volume has lost its name and
   * nothing else: where it throws, it has its name again.
   */
  remove?(volume: FoundVolume, mark?: string, confirm?: () => Promise<void>): Promise<void>;
  /**
   * Takes a volume out of the pool, with its snapshots, and loses nothing of it: it has no name until {@link restore}, over every
   * restart. In one step. As {@link remove} with `mark` and `confirm`; with {@link restore}, {@link purge} and {@link trashed}, or none of them.
   */
  trash?(volume: FoundVolume, id: string, mark?: string, confirm?: () => Promise<void>): Promise<void>;
  /**
   * Gives what was taken out a name, in one step. `isBack` tells of a name whether it is on record for that volume: a kill in the middle
   * of an earlier restore may have left both. Throws `volume-exists`, `volume-not-found`.
   */
  restore?(id: string, name: string, identify: Identify, isBack: (name: string) => boolean): Promise<void>;
  /**
   * Overwrites what was taken out with zeros, from a byte of it on and at most so many; durable when it settles. Holes, which hold nothing,
   * stay. Gives how far it is then, of how much. Throws `volume-has-snapshots` where snapshots of the storage keep what is overwritten,
   * `volume-in-use` while somebody has it open, `not-supported` where the storage never writes over what it holds.
   */
  wipeTrashed?(id: string, fromBytes: number, mostBytes: number): Promise<WipedPart>;
  /** Deletes what was taken out. Repeatable. */
  purge?(id: string): Promise<void>;
  /** The ids of all that this agent has taken out and that is there still. */
  trashed?(): Promise<string[]>;
  /**
   * What lies in the pool and is no volume, nor worked on by this agent now. Nothing is changed, and no volume opened: `isVolume` tells
   * which names volumes had when they were last looked at.
   */
  orphans?(isVolume: (name: string) => boolean): AsyncIterable<FoundOrphan>;
  /** Throws `shrink-refused` for a smaller capacity without `shrink`. */
  resize?(volume: FoundVolume, capacityBytes: number, shrink: boolean, signal?: AbortSignal): Promise<void>;
  /** A full copy, sharing blocks where the storage can. */
  clone?(volume: FoundVolume, target: string, identify: Identify, signal?: AbortSignal): Promise<void>;
  /** Gives a volume another name, in one step; its snapshots stay with it. `confirm` as in {@link remove}. Throws `volume-exists`. */
  rename?(
    volume: FoundVolume,
    target: string,
    identify: Identify,
    confirm?: () => Promise<void>,
  ): Promise<void>;
  /**
   * Makes a base of a volume, or a volume of a base again. A base takes no write from anybody, as far as its storage can see to that.
   * Repeatable. Throws `volume-has-clones` for a base that others stand on, where the storage knows.
   */
  setBase?(volume: FoundVolume, isBase: boolean): Promise<void>;
  /** Of all linked clones; absent: each has that of its base. */
  readonly linkedFormat?: VolumeFormat;
  /** A new volume that stands on a base: it begins with what that holds, and takes room for what differs. */
  cloneLinked?(base: FoundVolume, target: string, identify: Identify, signal?: AbortSignal): Promise<void>;
  /** As {@link cloneLinked}, of a snapshot: of any volume, also while a guest uses it. Throws `snapshot-not-found`. */
  cloneSnapshot?(volume: FoundVolume, id: string, target: string, identify: Identify): Promise<void>;
  /** {@link wipe} takes damaged volumes, too: they become empty ones of their format, as large as there is room for. */
  readonly wipesDamaged?: boolean;
  /** Overwrites all content; capacity, format and what the format was made with stay. A cancel leaves a sound volume. */
  wipe?(
    volume: FoundVolume,
    algorithm: WipeAlgorithm,
    identify: Identify,
    signal?: AbortSignal,
  ): Promise<void>;

  listSnapshots?(volume: FoundVolume): Promise<Snapshot[]>;
  createSnapshot?(volume: FoundVolume, id?: string): Promise<string>;
  switchSnapshot?(volume: FoundVolume, id: string): Promise<void>;
  deleteSnapshot?(volume: FoundVolume, id: string, signal?: AbortSignal): Promise<void>;
  /** In one step; what stands on it stays. Throws `snapshot-not-found`, `snapshot-exists`, `invalid-name`, `not-supported` for its format. */
  renameSnapshot?(volume: FoundVolume, id: string, to: string): Promise<void>;

  /** What is wrong with a volume. With `repair` what can be mended is mended; else nothing is changed. */
  check?(volume: FoundVolume, repair: boolean, signal?: AbortSignal): Promise<Finding[]>;

  /**
   * Makes a raw volume a block device of this host, and gives its node: the same again where it is one already. What is written to it is
   * written to the volume; of a base it takes no write. It stays over restarts of the agent, not of the host. Throws `not-supported` for a
   * volume that no block device can be made of here, `volume-in-use` for one of which somebody has made one of a part, or of a base one that
   * takes writes.
   */
  map?(volume: FoundVolume): Promise<MappedVolume>;
  /**
   * Takes each block device away that stands on the volume, or on a part of it, whoever has made it; where all volumes are block devices, it
   * only is not active any more. Gives the nodes of those that are gone. Repeatable. Throws `volume-in-use` while one is open; one that is
   * mounted stays then, one that a program has open goes by itself once it has closed it.
   */
  unmap?(volume: FoundVolume): Promise<string[]>;
  /**
   * The node of a block device of this host that a volume is mapped as, whoever has done that; undefined: of none. Absent: the storage itself
   * says what is open.
   */
  mappedAs?(volume: FoundVolume): Promise<string | undefined>;
  /** Makes a volume ready to be read on this host; true where it was not, and has another mark now. Absent: each is ready. */
  activate?(volume: FoundVolume): Promise<boolean>;
  /** Opens a volume for reading. Throws `volume-mounted` where it is in use by a guest. */
  open?(volume: FoundVolume, as: Representation, signal?: AbortSignal): Promise<OpenVolume>;
  /**
   * Opens a snapshot for reading, also while a guest uses the volume. Throws `snapshot-not-found`, `invalid-argument` for what can be no
   * id, `secret-missing`, `secret-refused`.
   */
  openSnapshot?(volume: FoundVolume, id: string): Promise<OpenSnapshot>;
  /**
   * Readies a raw volume to be written as a stream, while guests go on with it. Each stream ends with {@link dropStream}. Throws
   * `snapshot-not-found`, also for a base that is not older; `not-supported` where streams begin with a whole volume only.
   */
  beginSending?(volume: FoundVolume, stream: SentStream): Promise<StreamProgram>;
  /** Readies a place, without a name, for what a stream becomes. It goes by {@link dropStream}, or with the next start. Throws `volume-exists`. */
  beginReceiving?(name: string): Promise<StreamProgram>;
  /**
   * As {@link beginReceiving}, of a stream that holds what has changed since the last snapshot of a volume, which is `base`. The program
   * itself brings the volume from one snapshot of the stream to the next: where it is cut, the volume is what it held at one of them. Throws
   * `snapshot-not-found`, `volume-changed` where `base` is not its last snapshot or it was written to since, `volume-in-use`.
   */
  beginReceivingOnto?(volume: FoundVolume, stream: ReceivedStream): Promise<StreamProgram>;
  /**
   * Once the program has read the whole stream: what came gets its name, in one step, as a raw volume, with its snapshots. Whoever made the
   * stream is not trusted. Throws `invalid-image` for what is not one volume, `volume-exists`.
   */
  endReceiving?(id: string, name: string, stream: ReceivedStream, identify: Identify): Promise<void>;
  /** Once a program of {@link beginReceivingOnto} has ended, however it has. Throws `invalid-image` for a stream that was not of the volume alone. */
  endReceivingOnto?(id: string, stream: ReceivedStream): Promise<void>;
  /** Removes what is left of a stream. Repeatable. */
  dropStream?(id: string): Promise<void>;
  /** Begins a stage, the same one again for the same id. `text` is kept with it. Throws `volume-exists`, `no-space`. */
  stage?(spec: StageSpec, text: string): Promise<Stage>;
  /** The stages that were begun here and are not dropped, one by its id or all. One that cannot be opened hides no other. */
  stages?(id?: string): Promise<Stage[]>;
  /** Removes what a stage left, also one that cannot be opened. */
  dropStage?(id: string): Promise<void>;
}
