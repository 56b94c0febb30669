import { randomUUID } from 'node:crypto';
import { watch } from 'node:fs';
import { link, lstat, mkdir, readdir, rename, rm, rmdir, statfs, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Permissions } from '../../../shared/conf/permissions.ts';
import type { PoolDefinition } from '../../../shared/conf/pool.ts';
import type {
  NewVolume,
  Representation,
  Snapshot,
  Volume,
  VolumeFormat,
} from '../../../shared/conf/volume.ts';
import type { TransferSpec } from '../../../shared/protocol/agent.ts';
import type { Source } from '../../../shared/transfer/source.ts';
import { StowageError, toStowageError } from '../../../shared/util/errors.ts';
import { Revert } from '../../../shared/util/revert.ts';
import type { FormatDriver, SnapshotDriver } from '../../formats/format.ts';
import { FORMATS } from '../../formats/index.ts';
import { isPloopDirectory } from '../../formats/ploop/volume.ts';
import { isQcow2 } from '../../formats/qcow2.ts';
import type { WipeAlgorithm } from '../../formats/wipe.ts';
import {
  exists,
  openRegular,
  readFully,
  removeTree,
  setPermissions,
  syncDirectory,
} from '../../host/files.ts';
import { FileSource } from '../../transfer/file-source.ts';
import type { PoolDriver, Sink, Space, VolumeSource } from '../backend.ts';
import { Identities, type Identity, inodeOf } from './identities.ts';
import { holdDirectory, kindOf } from './paths.ts';
import type { DirSink } from './sink.ts';
import { DirSinks } from './sinks.ts';

/** The pool's private directory: identities, transfers under way, things being deleted. Never listed. */
const PRIVATE = '.stowage';

/**
 * The pool's own directory in the pool: what is in it is moved and removed without a further look. A link in its place, or a
 * directory of somebody else, would have us do that elsewhere.
 */
async function requirePrivate(path: string): Promise<void> {
  await mkdir(path, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
  const stat = await lstat(path);
  if (!stat.isDirectory() || stat.uid !== process.getuid?.())
    throw new StowageError('path-escapes-pool', `${path} is not a directory of the agent's own`);
}

/** A volume found by its name, with everything needed to work on it. */
interface Found {
  name: string;
  path: string;
  format: FormatDriver;
  identity: Identity;
}

/** A directory whose files and ploop directories are volumes. */
export class DirPool implements PoolDriver {
  readonly #path: string;
  readonly #permissions: Permissions | undefined;
  readonly #identities: Identities;
  readonly #sinks: DirSinks;

  constructor(definition: PoolDefinition) {
    this.#path = definition.target.path;
    this.#permissions = definition.target.permissions;
    this.#identities = new Identities(join(this.#path, PRIVATE));
    this.#sinks = new DirSinks(join(this.#path, PRIVATE, 'transfers'), (object, spec, inode) =>
      this.#publish(object, {
        name: spec.volume,
        format: spec.format,
        replace: spec.replace,
        id: spec.volumeId,
        transfer: spec.id,
        inode,
      }),
    );
  }

  async build(): Promise<void> {
    const { mode = 0, owner = process.getuid?.() } = this.#permissions ?? {};
    if (owner !== process.getuid?.() || (mode & 0o022) !== 0)
      throw new StowageError(
        'not-supported',
        'a pool whose directory others may write to cannot be here: they could replace what the agent keeps in it',
      );
    await mkdir(this.#path, { recursive: true, mode: 0o711 });
    if (this.#permissions) await setPermissions(this.#path, this.#permissions);
  }

  async start(): Promise<void> {
    const kind = await kindOf(this.#path);
    if (kind !== 'directory')
      throw new StowageError(
        'io-error',
        `the pool's directory ${this.#path} is ${kind === 'missing' ? 'not there; build the pool first' : 'not a directory'}`,
      );
    await requirePrivate(join(this.#path, PRIVATE));
    await this.#identities.load();
    for (const leftover of ['trash', 'new', 'scratch'])
      await rm(join(this.#path, PRIVATE, leftover), { recursive: true, force: true });
    await this.#sinks.finishInterrupted();
  }

  async stop(): Promise<void> {
    this.#sinks.clear();
  }

  async delete(): Promise<void> {
    const entries = (await readdir(this.#path)).filter((entry) => entry !== PRIVATE);
    if (entries.length > 0)
      throw new StowageError(
        'pool-not-empty',
        `the pool's directory still holds ${entries.length} entries, such as '${entries[0]}'`,
      );
    await rm(join(this.#path, PRIVATE), { recursive: true, force: true });
    await rmdir(this.#path);
  }

  async space(): Promise<Space> {
    const stat = await statfs(this.#path);
    const capacityBytes = stat.blocks * stat.bsize;
    return {
      capacityBytes,
      allocationBytes: capacityBytes - stat.bfree * stat.bsize,
      availableBytes: stat.bavail * stat.bsize,
    };
  }

  watch(changed: () => void): () => void {
    const watcher = watch(this.#path, (_event, name) => {
      if (!name?.startsWith('.')) changed();
    });
    watcher.on('error', () => watcher.close());
    return () => watcher.close();
  }

  // ---- finding ----

  async refresh(): Promise<Volume[]> {
    await this.#identities.load();
    const since = this.#identities.changes;
    const entries = await readdir(this.#path);
    const found = new Map<string, Omit<Identity, 'id'>>();
    await Promise.all(
      entries.map(async (name) => {
        const identity = name.startsWith('.') ? undefined : await this.#probe(name);
        if (identity) found.set(name, identity);
      }),
    );
    await this.#identities.reconcile(found, since);
    const volumes = await Promise.all(
      [...found.keys()].map((name) => this.#describe(name).catch(() => undefined)),
    );
    return volumes.filter((volume) => volume !== undefined).sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Inode and format of an entry; undefined for what is not a volume: links, devices, other directories. */
  async #probe(name: string): Promise<Omit<Identity, 'id'> | undefined> {
    const path = join(this.#path, name);
    const stat = await lstat(path, { bigint: true }).catch(() => undefined);
    if (!stat) return undefined;
    const inode = inodeOf(stat);
    const known = this.#identities.get(name);
    if (known?.inode === inode) return known;
    if (stat.isDirectory()) return (await isPloopDirectory(path)) ? { format: 'ploop', inode } : undefined;
    if (!stat.isFile()) return undefined;
    try {
      await using file = await openRegular(path, 'r');
      const head = Buffer.alloc(4);
      await readFully(file, head, 0);
      return { format: isQcow2(head) ? 'qcow2' : 'raw', inode };
    } catch (error) {
      // Gone or swapped under our eyes: the next look tells. Unreadable is still a volume, a damaged one, and no
      // reason to give up the pool.
      const swapped = ['path-escapes-pool', 'ENOENT', 'ELOOP'].includes(
        (error as NodeJS.ErrnoException).code ?? '',
      );
      return swapped ? undefined : { format: 'raw', inode };
    }
  }

  /** Throws `volume-not-found`; and `path-escapes-pool` for a link, wherever it leads. */
  async #find(name: string): Promise<Found> {
    await this.#identities.load();
    const path = join(this.#path, name);
    const kind = await kindOf(path);
    if (kind === 'missing') throw new StowageError('volume-not-found', `the pool has no volume '${name}'`);
    if (kind === 'other')
      throw new StowageError('path-escapes-pool', `'${name}' is a link or a special file, not a volume`);
    let identity = this.#identities.get(name);
    const probed = await this.#probe(name);
    if (!probed) throw new StowageError('volume-not-found', `'${name}' is a directory but not a volume`);
    if (identity?.inode !== probed.inode) {
      identity = { id: randomUUID(), ...probed };
      await this.#identities.set(name, identity);
    }
    return { name, path, format: FORMATS[identity.format], identity };
  }

  /** Runs `work` on a path that a swap of the volume for a link cannot redirect. */
  async #pinned<T>(volume: Found, work: (path: string) => Promise<T>): Promise<T> {
    if (!volume.format.isDirectory) return work(volume.path);
    await using held = await holdDirectory(volume.path);
    return await work(held.path);
  }

  async #describe(name: string): Promise<Volume> {
    const volume = await this.#find(name);
    const stat = await lstat(volume.path, { bigint: true });
    const common = {
      id: volume.identity.id,
      name,
      type: volume.format.isDirectory ? ('ploop' as const) : ('file' as const),
      format: volume.format.name,
      path: volume.path,
    };
    try {
      const facts = await this.#pinned(volume, (path) => volume.format.facts(path));
      const etag = `${volume.identity.id}-${await this.#changeMark(volume, stat.mtimeNs)}`;
      return { ...common, ...facts, etag };
    } catch (error) {
      const damaged = toStowageError(error).message;
      return {
        ...common,
        capacityBytes: 0,
        allocationBytes: 0,
        snapshotCount: 0,
        etag: `${volume.identity.id}-damaged`,
        damaged,
      };
    }
  }

  async #changeMark(volume: Found, mtimeNs: bigint): Promise<string> {
    if (!volume.format.isDirectory) return mtimeNs.toString(36);
    const parts = (await readdir(volume.path)).filter((entry) => entry.startsWith('root.hds'));
    const times = await Promise.all(
      parts.map(async (part) => (await lstat(join(volume.path, part), { bigint: true })).mtimeNs),
    );
    return (
      times
        .sort((a, b) => (a < b ? -1 : 1))
        .at(-1)
        ?.toString(36) ?? '0'
    );
  }

  // ---- making and unmaking ----

  async createVolume(volume: NewVolume, signal?: AbortSignal): Promise<Volume> {
    const format = FORMATS[volume.format];
    return this.#make(volume.name, volume.format, async (object) => {
      await format.create(object, volume, signal);
      if (volume.permissions) await setPermissions(object, volume.permissions);
    });
  }

  async cloneVolume(name: string, target: string, signal?: AbortSignal): Promise<Volume> {
    const source = await this.#find(name);
    return this.#make(target, source.format.name, (object) =>
      this.#pinned(source, (path) => source.format.clone(path, object, signal)),
    );
  }

  /** Lets `build` make an object out of sight, then publishes it under `name`. */
  async #make(name: string, format: VolumeFormat, build: (object: string) => Promise<void>): Promise<Volume> {
    await this.#refuseExisting(name);
    await using revert = new Revert();
    const directory = join(this.#path, PRIVATE, 'new', randomUUID());
    await mkdir(directory, { recursive: true, mode: 0o700 });
    revert.push(() => rm(directory, { recursive: true, force: true }));
    const object = join(directory, 'object');
    await build(object);
    // Awaited here: what is left of the directory goes only when the object has its name.
    return await this.#publish(object, { name, format, replace: false });
  }

  async #refuseExisting(name: string): Promise<void> {
    if (await exists(join(this.#path, name)))
      throw new StowageError('volume-exists', `the pool has a volume '${name}' already`);
  }

  /**
   * Gives `object` its name. A new file is linked, which fails when the name was taken meanwhile; a replacement is
   * renamed over. Repeatable: an object that is not there any more was published before.
   */
  async #publish(
    object: string,
    as: {
      name: string;
      format: VolumeFormat;
      replace: boolean;
      id?: string;
      transfer?: string;
      inode?: string;
    },
  ): Promise<Volume> {
    const target = join(this.#path, as.name);
    const previous = this.#identities.get(as.name);
    if (await exists(object)) {
      const isDirectory = FORMATS[as.format].isDirectory;
      if (as.replace && (await exists(target))) await this.#replace(object, target);
      else if (isDirectory) {
        await this.#refuseExisting(as.name);
        await rename(object, target);
      } else {
        await linkNew(object, target, as.name);
      }
      await syncDirectory(this.#path);
    }
    const inode = inodeOf(await lstat(target, { bigint: true }));
    if (as.inode !== undefined && as.inode !== inode) {
      throw new StowageError(
        'internal',
        `what arrived for '${as.name}' is neither in its transfer nor in its place`,
      );
    }
    const kept = as.replace ? previous?.id : undefined;
    await this.#identities.set(as.name, {
      id: as.id ?? kept ?? randomUUID(),
      format: as.format,
      inode,
      transfer: as.transfer,
    });
    return this.#describe(as.name);
  }

  async #replace(object: string, target: string): Promise<void> {
    const bothFiles = (await kindOf(object)) === 'file' && (await kindOf(target)) === 'file';
    if (bothFiles) return rename(object, target);
    // Two directories cannot change places in one step: the old one steps aside, and comes back if the new one cannot.
    const aside = `${object}.replaced`;
    await rename(target, aside);
    await rename(object, target).catch(async (error) => {
      await rename(aside, target);
      throw error;
    });
    await removeTree(aside, join(this.#path, PRIVATE, 'trash'));
  }

  async deleteVolume(name: string, etag?: string): Promise<void> {
    const volume = await this.#find(name);
    if (etag !== undefined && (await this.#describe(name)).etag !== etag) {
      throw new StowageError('volume-changed', `volume '${name}' was changed since it was read; it stays`);
    }
    await this.#pinned(volume, async (path) => volume.format.refuseMounted?.(path));
    await removeTree(volume.path, join(this.#path, PRIVATE, 'trash'));
    await this.#identities.delete(name);
  }

  async resizeVolume(name: string, capacityBytes: number, shrink: boolean): Promise<Volume> {
    const volume = await this.#find(name);
    await this.#pinned(volume, (path) => volume.format.resize(path, capacityBytes, shrink));
    return this.#describe(name);
  }

  async wipeVolume(name: string, algorithm: WipeAlgorithm, signal?: AbortSignal): Promise<Volume> {
    const volume = await this.#find(name);
    await this.#pinned(volume, (path) => volume.format.wipe(path, algorithm, signal));
    return this.#describe(name);
  }

  // ---- snapshots ----

  async #snapshots<T>(name: string, work: (driver: SnapshotDriver, path: string) => Promise<T>): Promise<T> {
    const volume = await this.#find(name);
    const driver = volume.format.snapshots;
    if (!driver)
      throw new StowageError('not-supported', `volumes of format ${volume.format.name} have no snapshots`);
    return this.#pinned(volume, (path) => work(driver, path));
  }

  listSnapshots(name: string): Promise<Snapshot[]> {
    return this.#snapshots(name, (driver, path) => driver.list(path));
  }

  createSnapshot(name: string, id?: string): Promise<string> {
    return this.#snapshots(name, (driver, path) => driver.create(path, id));
  }

  switchSnapshot(name: string, id: string): Promise<void> {
    return this.#snapshots(name, (driver, path) => driver.switch(path, id));
  }

  deleteSnapshot(name: string, id: string, signal?: AbortSignal): Promise<void> {
    return this.#snapshots(name, (driver, path) => driver.delete(path, id, signal));
  }

  // ---- moving bytes ----

  async openSource(
    name: string,
    representation: Representation,
    signal?: AbortSignal,
  ): Promise<VolumeSource> {
    const volume = await this.#find(name);
    const described = await this.#describe(name);
    if (described.damaged) throw new StowageError('volume-damaged', described.damaged);
    const { capacityBytes, etag, format, id: volumeId } = described;
    await using revert = new Revert();
    const closers: (() => Promise<unknown>)[] = [];
    if (representation === 'content') {
      const scratch = join(this.#path, PRIVATE, 'scratch', randomUUID());
      await mkdir(scratch, { recursive: true, mode: 0o700 });
      closers.push(() => rm(scratch, { recursive: true, force: true }));
      revert.push(closers[0]!);
      const source = await this.#pinned(volume, (path) => volume.format.openContent(path, scratch, signal));
      closers.unshift(() => source.close());
      revert.commit();
      const parts = [{ name: '', sizeBytes: source.sizeBytes, dense: false }];
      return this.#source(name, { parts, format, capacityBytes, volumeId, etag }, [source], closers);
    }
    const parts = await this.#pinned(volume, (path) => volume.format.imageParts(path));
    const sources = await this.#pinned(volume, async (path) => {
      const opened: FileSource[] = [];
      revert.push(() => Promise.all(opened.map((source) => source.close())));
      for (const part of parts)
        opened.push(await FileSource.open(part.name === '' ? path : join(path, part.name)));
      return opened;
    });
    revert.commit();
    return this.#source(name, { parts, format, capacityBytes, volumeId, etag }, sources, [
      () => Promise.all(sources.map((source) => source.close())),
    ]);
  }

  #source(
    name: string,
    layout: VolumeSource['layout'],
    sources: Source[],
    closers: (() => Promise<unknown>)[],
  ): VolumeSource {
    return {
      layout,
      sources,
      checkUnchanged: async () => {
        const now = await this.#describe(name).catch(() => undefined);
        if (now?.etag !== layout.etag)
          throw new StowageError(
            'volume-in-use',
            `volume '${name}' was changed by somebody else while it was read`,
          );
      },
      async close() {
        for (const close of closers) await close();
      },
    };
  }

  openSink(spec: TransferSpec): Promise<Sink> {
    return this.#sinks.begin(spec, () => this.#admit(spec));
  }

  listSinks(): Promise<DirSink[]> {
    return this.#sinks.list();
  }

  dropSink(transferId: string): Promise<void> {
    return this.#sinks.drop(transferId);
  }

  /** Refuses a transfer that cannot end well, before it begins. */
  async #admit(spec: TransferSpec): Promise<void> {
    await this.#refuseLoss(spec);
    const { availableBytes } = await this.space();
    const needed = spec.parts.reduce((sum, part) => sum + (part.dense ? part.sizeBytes : 0), 0);
    if (needed > availableBytes) {
      throw new StowageError(
        'no-space',
        `the volume needs ${needed} bytes, the pool has ${availableBytes} left`,
      );
    }
  }

  /** A transfer must not end the life of a volume by surprise, nor of its snapshots at all. */
  async #refuseLoss(spec: TransferSpec): Promise<void> {
    if (!spec.replace) return this.#refuseExisting(spec.volume);
    if (!(await exists(join(this.#path, spec.volume)))) return;
    const existing = await this.#describe(spec.volume);
    const found = await this.#find(spec.volume);
    await this.#pinned(found, async (path) => found.format.refuseMounted?.(path));
    if (existing.snapshotCount > 0)
      throw new StowageError(
        'volume-has-snapshots',
        "can't upload volume, all existing snapshots will be lost",
      );
  }

  async committed(transferId: string): Promise<Volume | undefined> {
    await this.#identities.load();
    const name = this.#identities.findTransfer(transferId);
    return name === undefined ? undefined : this.#describe(name);
  }
}

async function linkNew(object: string, target: string, name: string): Promise<void> {
  await link(object, target).catch(async (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
    const [ours, theirs] = await Promise.all([lstat(object), lstat(target)]);
    if (ours.ino !== theirs.ino)
      throw new StowageError('volume-exists', `the pool has a volume '${name}' already`);
  });
  await unlink(object);
}
