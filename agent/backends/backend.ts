import type { PoolDefinition } from '../../shared/conf/pool.ts';
import type { PoolSource } from '../../shared/conf/sources-xml.ts';
import type { NewVolume, Representation, Snapshot, Volume } from '../../shared/conf/volume.ts';
import type { Layout, TransferSpec } from '../../shared/protocol/agent.ts';
import type { ChunkDigests } from '../../shared/transfer/chunks.ts';
import type { ReceivedChunk } from '../../shared/transfer/receive.ts';
import type { Source } from '../../shared/transfer/source.ts';
import type { WipeAlgorithm } from '../formats/wipe.ts';

/** The contract below. A backend of another version is refused when it registers. */
export const CONTRACT_VERSION = 1;

/** What a kind of storage can do, as data: nothing outside a backend asks for its name. */
export type Capability =
  | 'create'
  | 'delete'
  | 'resize'
  | 'shrink'
  | 'clone'
  | 'wipe'
  | 'snapshot'
  | 'transfer';

export interface Backend {
  /** The pool type, as libvirt names it. */
  readonly type: string;
  readonly contract: number;
  readonly capabilities: readonly Capability[];
  /** Formats that its volumes can have; absent: all that libvirt has for this type. */
  readonly volumeFormats?: readonly string[];
  /** Why it cannot work on this host, such as `vgs: not found`; undefined when it can. */
  probe(): Promise<string | undefined>;
  /** What pools of this type could be made of, on this host or on the one that is named. */
  findSources?(host: string | undefined): Promise<PoolSource[]>;
  /** A driver for one pool. Touches nothing: the pool may be inactive, or its storage away. */
  open(definition: PoolDefinition): PoolDriver;
}

export interface Space {
  capacityBytes: number;
  allocationBytes: number;
  availableBytes: number;
}

/**
 * The source of one transfer. `checkUnchanged` throws `volume-in-use` when somebody outside changed the bytes since it
 * was opened: what was read then is not one state of the volume.
 */
export interface VolumeSource {
  readonly layout: Layout;
  /** One source for each part of the layout. */
  readonly sources: readonly Source[];
  checkUnchanged(): Promise<void>;
  close(): Promise<void>;
}

/** Where a transfer is written: hidden, resumable, no volume until it is committed. */
export interface Sink {
  readonly spec: TransferSpec;
  readonly digests: ChunkDigests;
  /** Last change, ms since the epoch. */
  readonly touchedAt: number;
  /** Writes one checked chunk. Holds the writer back while more than a few MiB are not durable yet. */
  write(chunk: ReceivedChunk): Promise<void>;
  /** Settles when everything written is durable and on record. Throws when something could not be. */
  flush(): Promise<void>;
  /**
   * Makes the complete transfer a volume: checks the digest, lets the format check the image, publishes it under its
   * name in one step. Repeatable after a kill. Throws `digest-mismatch`, `invalid-image`, `volume-exists`.
   */
  commit(digest: string | undefined, signal?: AbortSignal): Promise<{ volume: Volume; digest: string }>;
  /** Removes every trace. */
  abort(): Promise<void>;
}

/**
 * One pool. `refresh` is mandatory; a method that is absent means "not supported". The caller serialises changes of one
 * volume and never calls a method but build, check, start and delete while the pool is inactive. Names were checked.
 * Every method leaves nothing half done behind an error.
 */
export interface PoolDriver {
  /** Makes the storage of a new pool, such as the directory. Of one that is there only asked-for permissions change. */
  build?(): Promise<void>;
  /** Makes the pool usable, finishing what a kill interrupted. Throws when the storage is not there. */
  start?(): Promise<void>;
  stop?(): Promise<void>;
  /** Deletes the pool's storage. Throws `pool-not-empty` while volumes are in it. */
  delete?(): Promise<void>;
  /** Looks at what is there now, whoever made it. Never changes a volume. */
  refresh(): Promise<Volume[]>;
  /** Calls back, soon after, when somebody changes what is in the pool. Gives a way to stop. */
  watch?(changed: () => void): () => void;
  space?(): Promise<Space>;

  /** Throws `volume-exists`. */
  createVolume?(volume: NewVolume, signal?: AbortSignal): Promise<Volume>;
  /** With `etag`, only the state of the volume that has it, else `volume-changed`. */
  deleteVolume?(name: string, etag?: string): Promise<void>;
  /** Throws `shrink-refused` for a smaller capacity without `shrink`. */
  resizeVolume?(name: string, capacityBytes: number, shrink: boolean): Promise<Volume>;
  cloneVolume?(name: string, target: string, signal?: AbortSignal): Promise<Volume>;
  wipeVolume?(name: string, algorithm: WipeAlgorithm, signal?: AbortSignal): Promise<Volume>;

  listSnapshots?(name: string): Promise<Snapshot[]>;
  createSnapshot?(name: string, id?: string): Promise<string>;
  switchSnapshot?(name: string, id: string): Promise<void>;
  deleteSnapshot?(name: string, id: string, signal?: AbortSignal): Promise<void>;

  /** Opens a volume for reading as a whole. Throws `volume-mounted` where it is in use by a guest. */
  openSource?(name: string, representation: Representation, signal?: AbortSignal): Promise<VolumeSource>;
  /** Opens the sink of a transfer, the same one again for the same id. Throws `volume-exists`, `no-space`. */
  openSink?(spec: TransferSpec): Promise<Sink>;
  /** The transfers that were begun here and neither committed nor aborted. */
  listSinks?(): Promise<Sink[]>;
  /** Removes what a transfer left, also one that cannot be opened. Throws `job-state` while it is being committed. */
  dropSink?(transferId: string): Promise<void>;
  /** The volume that a transfer became, when it was committed before. */
  committed?(transferId: string): Promise<Volume | undefined>;
}
