import { type BigIntStats, lstatSync, type Stats } from 'node:fs';
import { lstat, readdir, readlink, rename, stat, statfs, unlink } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';
import { ZodError } from 'zod';
import { isDiskFormat } from '../../../shared/conf/image-formats.ts';
import type { WipedPart } from '../../../shared/conf/trash.ts';
import type { Finding, MappedVolume, Representation, Snapshot } from '../../../shared/conf/volume.ts';
import type { WipeAlgorithm } from '../../../shared/conf/wipe-algorithms.ts';
import { clock } from '../../../shared/util/clock.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { hashedUuid } from '../../../shared/util/hashed-uuid.ts';
import { Revert } from '../../../shared/util/revert.ts';
import { Turns } from '../../../shared/util/turns.ts';
import type {
  Found,
  FoundOrphan,
  FoundVolume,
  HostServices,
  Identify,
  IdentityStore,
  Known,
  OpenSnapshot,
  OpenVolume,
  PoolDriver,
  Space,
  Stage,
  StageSpec,
} from '../../backends/backend.ts';
import type { FormatDriver, OpenBacking, WantedVolume } from '../../formats/format.ts';
import { DIRECTORY_FORMATS, IMAGE_FORMATS, isImageFormat } from '../../formats/index.ts';
import { createOverlay, flatten, refuseLongChain } from '../../formats/qcow2/overlay.ts';
import {
  bigStatIfExists,
  entriesIfExists,
  exists,
  setPermissions,
  syncDirectory,
  writeZeros,
} from '../../host/files.ts';
import { preallocate } from '../../host/holes.ts';
import { locate } from '../../host/mounts.ts';
import { copyFileFast } from '../../images/copy.ts';
import { FileImage } from '../../images/file-image.ts';
import { mapFile, mappedAs, unmapFile } from '../mapped-file.ts';
import { keepsNames } from '../snapshot-names.ts';
import { StageRecord } from '../stage-record.ts';
import { StorageNote } from '../storage-note.ts';
import { allowRemoval, setFileBase, takesNoWrite } from './base.ts';
import { describeEntry, type FileSystemTraits, fingerprintOf } from './describe.ts';
import { holdDirectory, nameVolume } from './held-directory.ts';
import { FLAT, type Layout } from './layout.ts';
import { isSameFile, makeParent, placeNew, renameNew } from './new-names.ts';
import { orphansIn } from './orphans.ts';
import { PrivateDirectory } from './private-directory.ts';
import { FileStage, type StagePlace } from './stage.ts';
import { StampReader } from './stamps.ts';
import { watchLayout } from './watch.ts';
import { Leftovers, wipeByReplacing, wipeInPlace, wipePart } from './wiping.ts';

/** Entries of a batch. */
const BATCH = 1000;

/** What differs between the pools whose volumes are files: how their directory comes to be there. */
export interface DirectoryStorage extends FileSystemTraits {
  /** The directory that the volumes are in. */
  readonly path: string;
  build(overwrite?: boolean): Promise<void>;
  /** Brings the directory there, such as by a mount; false where it was there before. Repeatable. */
  attach(): Promise<boolean>;
  detach(): Promise<void>;
  /** What is left once the last file is gone. */
  remove(): Promise<void>;
}

/** A pool whose volumes are the files and ploop directories of one directory, or of those below it that its layout names. */
export class FilePool implements PoolDriver {
  readonly #storage: DirectoryStorage;
  readonly #path: string;
  readonly #host: HostServices;
  readonly #layout: Layout;
  #place: PrivateDirectory;
  readonly #note: StorageNote;
  readonly #leftovers = new Leftovers();
  #storageId: string | undefined;

  constructor(storage: DirectoryStorage, host: HostServices) {
    this.#storage = storage;
    this.#path = storage.path;
    this.#host = host;
    this.#layout = storage.layout ?? FLAT;
    this.#place = this.#choosePlace();
    this.#note = new StorageNote(() => host.stateDirectory());
  }

  /** Where other hosts may work in the same directory, this agent keeps its things in one of its own. */
  #choosePlace(): PrivateDirectory {
    const shared = !this.#storage.local || locate(this.#path).mayHang;
    return new PrivateDirectory(this.#path, shared ? this.#host.agentId : undefined);
  }

  // ---- life ----

  async build(overwrite?: boolean): Promise<void> {
    await this.#storage.build(overwrite);
    // From now on whatever is there is this pool's storage.
    await this.#note.forget();
  }

  async start(): Promise<void> {
    const attached = await this.#storage.attach();
    try {
      await this.#begin();
    } catch (error) {
      // What was there before is not ours to take away.
      if (attached) await this.#storage.detach().catch(() => undefined);
      throw error;
    }
  }

  async #begin(): Promise<void> {
    await this.#requireDirectory();
    const place = this.#choosePlace();
    const before = this.#place;
    const there = await place.storageId();
    await this.#note.check(this.#path, there);
    let locked = false;
    try {
      try {
        await place.ensure();
        locked = await (place.path === before.path ? before : place).lock();
        if (place.path !== before.path) this.#place = place;
        this.#storageId = there ?? (await this.#place.makeStorageId());
        await this.#dropUnreadableStages();
        this.#leftovers.begin(this.#place, await this.#place.clean());
      } catch (error) {
        // After an error of the disk the kernel lets nobody write to it: what is there can be read and taken away.
        if ((error as NodeJS.ErrnoException).code !== 'EROFS' || there === undefined) throw error;
        this.#storageId = there;
      }
      await this.#note.set(this.#path, this.#storageId);
    } catch (error) {
      // Work under way relies on a lock that was held before.
      if (locked) await this.#place.release();
      this.#place = before;
      throw error;
    }
    if (this.#place !== before) await before.release();
  }

  /** Nobody can go on with a stage whose record is no record: its bytes are of no use. */
  async #dropUnreadableStages(): Promise<void> {
    for (const id of await readdir(join(this.#place.path, 'stages'))) {
      const path = this.#stagePath(id);
      const damaged = await StageRecord.resume(path).then(
        () => false,
        (error: NodeJS.ErrnoException) => error instanceof SyntaxError || error instanceof ZodError,
      );
      // What stepped aside in it may be the only copy of a volume.
      if (damaged && !(await exists(join(path, 'aside')))) await this.#place.remove(path);
    }
  }

  async #requireDirectory(): Promise<void> {
    const stat = await lstat(this.#path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
      throw new StowageError(
        'io-error',
        `the pool's directory ${this.#path} is not there; build the pool first`,
      );
    });
    if (!stat.isDirectory())
      throw new StowageError('io-error', `the pool's directory ${this.#path} is not a directory`);
    const other = stat.uid !== process.getuid?.() && stat.uid !== 0;
    if (this.#storage.local && (other || (stat.mode & 0o022) !== 0))
      throw new StowageError(
        'not-supported',
        `others may write to ${this.#path} (mode ${(stat.mode & 0o777).toString(8)}): they could replace what the agent keeps in it; 'chmod go-w' it`,
      );
  }

  async stop(): Promise<void> {
    await this.#leftovers.end();
    await this.#place.release();
    try {
      await this.#storage.detach();
    } catch (error) {
      await this.#place.lock();
      throw error;
    }
  }

  async delete(): Promise<void> {
    const attached = await this.#storage.attach();
    try {
      await this.#refuseEntries();
      await this.#place.removeAll();
    } catch (error) {
      if (attached) await this.#storage.detach().catch(() => undefined);
      throw error;
    }
    await this.#note.forget();
    await this.#storage.detach();
    await this.#storage.remove();
  }

  async #refuseEntries(): Promise<void> {
    const entries = (await readdir(this.#path)).filter(
      (entry) => entry !== '.stowage' && entry !== 'lost+found',
    );
    if (entries.length > 0)
      throw new StowageError(
        'pool-not-empty',
        `the pool's directory still holds ${entries.length} entries, such as '${entries[0]}'`,
      );
  }

  async space(): Promise<Space> {
    await this.#requireStorage();
    const stat = await statfs(this.#path);
    const capacityBytes = stat.blocks * stat.bsize;
    return {
      storageId: this.#storageId,
      capacityBytes,
      allocationBytes: capacityBytes - stat.bfree * stat.bsize,
      availableBytes: stat.bavail * stat.bsize,
    };
  }

  /** Of storage that other hosts may have too, where a file is known by its inode: they give it the same id. */
  get idOf(): PoolDriver['idOf'] {
    const { local, knownBy } = this.#storage;
    if (local || knownBy !== 'inode' || this.#storageId === undefined) return undefined;
    // Without the time of birth an inode number may be that of a file before it.
    return (fingerprint) =>
      fingerprint.endsWith(':0') ? undefined : hashedUuid(`${this.#storageId!} ${fingerprint}`);
  }

  identities(): Promise<IdentityStore> {
    return this.#place.identities();
  }

  /** An empty mount point is no empty pool. */
  async #requireStorage(): Promise<void> {
    const there = await this.#place.storageId();
    if (there !== this.#storageId || !(await this.#place.isSame()))
      throw new StowageError(
        'pool-inaccessible',
        `the storage of the pool is not in ${this.#path} any more: is it unmounted?`,
      );
  }

  // ---- where volumes are ----

  /** Throws `invalid-name` for a name that no volume can have here. */
  #at(name: string): string {
    const place = this.#layout.placeOf(name);
    if (place === undefined)
      throw new StowageError('invalid-name', `no volume of the pool can be named '${name}'`);
    return this.#inside(place, name);
  }

  /** Throws `path-escapes-pool` where the directory of a guest is a link, which leads to files that are none of the pool. */
  #inside(place: string, name: string): string {
    const parent = dirname(place);
    const isLink =
      parent.includes('/') &&
      lstatSync(join(this.#path, parent), { throwIfNoEntry: false })?.isSymbolicLink() === true;
    if (!isLink) return join(this.#path, place);
    throw new StowageError('path-escapes-pool', `'${name}' would lie behind the link ${parent}`);
  }

  /** The format of a volume is what its name says, where the name of a volume says one. Throws `invalid-argument`. */
  #refuseOtherFormat(name: string, format: FoundVolume['format']): void {
    const told = this.#layout.formatOf?.(name);
    if (told !== undefined && told !== format)
      throw new StowageError(
        'invalid-argument',
        `'${name}' is the name of a ${told} volume, not of a ${format} one`,
      );
  }

  /** Runs what gives a volume its name, or takes it away. */
  #naming<T>(work: () => Promise<T>): Promise<T> {
    return this.#host.alone(work);
  }

  /** The names of all that may be volumes, by the directories that they lie in. */
  async *#entries(): AsyncGenerator<{ directory: string; entries: { entry: string; name: string }[] }> {
    for (const place of await this.#layout.directories(this.#path)) {
      const directory = join(this.#path, place);
      const entries: { entry: string; name: string }[] = [];
      // The directory of a guest may have gone meanwhile; that of the pool may not.
      for (const entry of await (place === '' ? readdir(directory) : entriesIfExists(directory))) {
        const name = entry.includes('\ufffd') ? undefined : this.#layout.nameAt(join(place, entry));
        if (name !== undefined) entries.push({ entry, name });
      }
      yield { directory, entries };
    }
  }

  // ---- looking ----

  async *list(known: (name: string) => Known | undefined, signal?: AbortSignal): AsyncGenerator<Found[]> {
    await this.#requireStorage();
    let batch: Found[] = [];
    const turns = new Turns();
    for await (const { directory, entries } of this.#entries()) {
      using stamps = StampReader.open(directory);
      for (const { entry, name } of entries) {
        const before = known(name);
        // A ploop volume is more than its directory, and has a stamp that is no number.
        const same = typeof before?.stamp === 'number' && stamps?.read(entry) === before.stamp;
        const path = join(directory, entry);
        const described = same ? 'unchanged' : describeEntry(path, name, before, this.#storage);
        const found = described instanceof Promise ? await described : described;
        if (found) batch.push(found === 'unchanged' ? { name, unchanged: true } : found);
        if (batch.length >= BATCH) {
          yield batch;
          batch = [];
        }
        if (turns.due) {
          await turns.next();
          signal?.throwIfAborted();
        }
      }
    }
    yield batch;
    await this.#requireStorage();
  }

  async look(name: string, known?: Known): Promise<FoundVolume | undefined> {
    const place = this.#layout.placeOf(name);
    if (place === undefined) return undefined;
    const path = this.#inside(place, name);
    const found = await describeEntry(path, name, known && { ...known, stamp: undefined }, this.#storage);
    if (found && found !== 'unchanged') return found;
    await this.#requireStorage();
    const stat = statOf(path, name);
    if (stat && !stat.isDirectory() && !stat.isFile())
      throw new StowageError('path-escapes-pool', `'${name}' is a link or a special file, not a volume`);
    return undefined;
  }

  mappedAs({ name }: FoundVolume): Promise<string | undefined> {
    return mappedAs(this.#at(name));
  }

  map({ name, fingerprint, isBase = false }: FoundVolume): Promise<MappedVolume> {
    const isSame = async (): Promise<boolean> => (await this.look(name))?.fingerprint === fingerprint;
    return mapFile(this.#at(name), { name, isBase }, isSame);
  }

  unmap({ name }: FoundVolume): Promise<string[]> {
    return unmapFile(this.#at(name));
  }

  get watch(): PoolDriver['watch'] {
    return this.#storage.local ? (changed) => watchLayout(this.#path, this.#layout, changed) : undefined;
  }

  // ---- working on a volume ----

  /** Runs `work` with a volume opened as its format wants it, in a way that a swap for a link cannot redirect. */
  async #with<R>(
    volume: FoundVolume,
    mode: 'read' | 'write',
    work: <T>(driver: FormatDriver<T>, volume: T) => Promise<R>,
  ): Promise<R> {
    const { name, format } = volume;
    const path = this.#at(name);
    try {
      if (format === 'unknown') throw new StowageError('volume-damaged', `volume '${name}' cannot be read`);
      if (isImageFormat(format)) {
        await using image = await FileImage.open(path, mode);
        if (mode === 'write') this.#refuseOther(await image.handle.stat({ bigint: true }), volume);
        return await work(IMAGE_FORMATS[format], image);
      }
      return await this.#held(name, async (held) => {
        if (mode === 'write') this.#refuseOther(await stat(held, { bigint: true }), volume);
        return work(DIRECTORY_FORMATS[format], held);
      });
    } catch (error) {
      throw nameVolume(error, name);
    }
  }

  /** Runs `work` with the path of a volume that is a directory, held open. */
  async #held<R>(name: string, work: (path: string) => Promise<R>): Promise<R> {
    await using held = await holdDirectory(this.#at(name));
    try {
      return await work(held.path);
    } catch (error) {
      throw nameVolume(error, name);
    }
  }

  async #refuseExisting(name: string): Promise<void> {
    if (await exists(this.#at(name)))
      throw new StowageError('volume-exists', `the pool has a volume '${name}' already`);
  }

  async create(volume: WantedVolume, identify: Identify, signal?: AbortSignal): Promise<void> {
    const { name, format, capacityBytes } = volume;
    this.#refuseOtherFormat(name, format);
    await this.#refuseExisting(name);
    await using scratch = this.#place.scratch();
    if (!isImageFormat(format)) await DIRECTORY_FORMATS[format].create(scratch.path, volume, signal);
    else {
      const driver = IMAGE_FORMATS[format];
      await using image = await FileImage.open(scratch.path, 'create');
      if (driver.plain) await this.#size(image, capacityBytes, volume.preallocate);
      await driver.create(image, volume, signal);
      // Behind its header nothing is written yet.
      if (volume.preallocate && driver.sizedByImage && !driver.plain)
        await this.#reserve(image, image.sizeBytes - capacityBytes, image.sizeBytes);
    }
    if (volume.permissions) await setPermissions(scratch.path, volume.permissions);
    await this.#publish(scratch.path, name, identify);
  }

  async #size(image: FileImage, capacityBytes: number, reserve: boolean): Promise<void> {
    if (reserve) {
      const { availableBytes } = await this.space();
      if (capacityBytes > availableBytes)
        throw new StowageError(
          'no-space',
          `the volume needs ${capacityBytes} bytes, the pool has ${availableBytes} left`,
        );
      await this.#reserve(image, 0, capacityBytes);
    }
    await image.setSize(capacityBytes);
  }

  /** Blocks for a whole file; where the file system cannot reserve them, what is there from `from` on is written as zeros. */
  async #reserve({ handle }: FileImage, from: number, sizeBytes: number): Promise<void> {
    if (!(await preallocate(handle, sizeBytes))) await writeZeros(handle, from, sizeBytes - from);
  }

  /** The identity is on record before the name is there, and both are durable afterwards. */
  async #publish(object: string, name: string, identify: Identify): Promise<void> {
    const target = this.#at(name);
    await makeParent(target, this.#path);
    await this.#naming(async () => {
      await identify(fingerprintOf(await lstat(object, { bigint: true }), name, this.#storage));
      await placeNew(object, target, name);
      await syncDirectory(dirname(target));
    });
  }

  async remove(volume: FoundVolume, mark?: string, confirm = MAY_GO): Promise<void> {
    const path = this.#at(volume.name);
    const remove = await this.#taking(volume, mark, () =>
      this.#place.takeAway(path, (aside) => this.#isAt(aside, volume), confirm),
    );
    // Its bytes may be many: nobody waits for the lock meanwhile.
    await remove();
  }

  /** Runs what takes a volume from its name. A base, which its file system guards, is guarded again where that fails. */
  async #taking<T>(volume: FoundVolume, mark: string | undefined, work: () => Promise<T>): Promise<T> {
    await this.#refuseTaking(volume, mark);
    try {
      return await this.#naming(work);
    } catch (error) {
      // What went wrong first is what counts; the next start guards all bases.
      if (volume.isBase) await this.setBase(volume, true).catch(() => undefined);
      throw error;
    }
  }

  /** Whether what lies at a path is the volume. Where files are known by nothing but their names whatever is there is. */
  async #isAt(path: string, { name, fingerprint }: FoundVolume): Promise<boolean> {
    const stat = await bigStatIfExists(path);
    return stat !== undefined && fingerprintOf(stat, name, this.#storage) === fingerprint;
  }

  /** Throws `volume-changed` where what was looked at, or nothing, is not the volume that was found. */
  #refuseOther(stat: BigIntStats | undefined, { name, fingerprint }: FoundVolume): void {
    if (stat === undefined || fingerprintOf(stat, name, this.#storage) !== fingerprint)
      throw new StowageError(
        'volume-changed',
        `volume '${name}' is gone, or another one has its name: nothing was changed`,
      );
  }

  /** As {@link #refuseOther}, of what lies at a path. */
  async #requireSame(path: string, volume: FoundVolume): Promise<void> {
    this.#refuseOther(await bigStatIfExists(path), volume);
  }

  /** Throws `volume-changed` where it is not the state of `mark`, `volume-mounted` while a guest has it. */
  async #refuseTaking(
    { name, format, fingerprint, isBase }: FoundVolume,
    mark: string | undefined,
  ): Promise<void> {
    const known = { fingerprint, format: format === 'unknown' ? undefined : format };
    if (mark !== undefined && (await this.look(name, known))?.mark !== mark)
      throw new StowageError('volume-changed', `volume '${name}' was changed since it was read; it stays`);
    if (format === 'ploop') await this.#held(name, (held) => DIRECTORY_FORMATS.ploop.refuseMounted(held));
    if (isBase) await allowRemoval(this.#at(name));
  }

  async rename(volume: FoundVolume, target: string, identify: Identify, confirm = MAY_GO): Promise<void> {
    const [from, to] = [this.#at(volume.name), this.#at(target)];
    this.#refuseOtherFormat(target, volume.format);
    if (!(await isSameFile(from, to))) await this.#refuseExisting(target);
    await makeParent(to, this.#path);
    await this.#taking(volume, undefined, async () => {
      await this.#requireSame(from, volume);
      await identify(fingerprintOf(await lstat(from, { bigint: true }), target, this.#storage));
      await renameNew(from, to, target);
      try {
        // Another one may have come under the name.
        if (this.#knowsFiles) await this.#requireSame(to, volume);
        await confirm();
      } catch (error) {
        await renameNew(to, from, volume.name);
        throw error;
      }
      for (const directory of new Set([dirname(to), dirname(from)])) await syncDirectory(directory);
    });
    if (volume.isBase)
      await setFileBase(to, true, (stat) => {
        if (this.#knowsFiles) this.#refuseOther(stat, volume);
      });
  }

  /** Whether a file is known again under another name. */
  get #knowsFiles(): boolean {
    return this.#storage.knownBy === 'inode';
  }

  async setBase(volume: FoundVolume, isBase: boolean): Promise<void> {
    const { name, format, isBase: now } = volume;
    // The mode of what is no base is its owner's.
    if (!isBase && !now) return;
    if (!isImageFormat(format))
      throw new StowageError('not-supported', `a ${format} volume is not made a base`);
    await setFileBase(this.#at(name), isBase, (stat) => this.#refuseOther(stat, volume));
  }

  readonly linkedFormat = 'qcow2';

  async cloneLinked(
    base: FoundVolume,
    target: string,
    identify: Identify,
    signal?: AbortSignal,
  ): Promise<void> {
    const { name, format, capacityBytes, encryption } = base;
    if (!isDiskFormat(format) || encryption)
      throw new StowageError(
        'not-supported',
        `no linked clone stands on ${encryption ? 'an encrypted' : `a ${format}`} volume in a file; make a full copy`,
      );
    this.#refuseOtherFormat(target, this.linkedFormat);
    await this.#refuseExisting(target);
    await using below = await FileImage.open(this.#at(name), 'read');
    await refuseLongChain(below, format, this.#openBacking);
    // qemu would open whatever it names.
    if (format === 'vmdk') await IMAGE_FORMATS.vmdk.adopt(below);
    await using scratch = this.#place.scratch();
    await using image = await FileImage.open(scratch.path, 'create');
    const path = relative(dirname(this.#at(target)), this.#at(name));
    await createOverlay(image, capacityBytes, { path, format }, signal);
    const clone = await lstat(scratch.path, { bigint: true });
    await this.#publish(scratch.path, target, identify);
    try {
      // Whoever takes a base away looks for clones when it has lost its name: one of the two sees the other.
      const there = await bigStatIfExists(this.#at(name));
      this.#refuseOther(there, base);
      if (!takesNoWrite(there!.mode)) throw changedBase(name);
    } catch (error) {
      const made = fingerprintOf(clone, target, this.#storage);
      await this.remove({ ...base, name: target, fingerprint: made, format: 'qcow2', isBase: undefined });
      throw error;
    }
  }

  async trash(volume: FoundVolume, id: string, mark?: string, confirm = MAY_GO): Promise<void> {
    const kept = this.#place.kept(id);
    const path = this.#at(volume.name);
    await this.#taking(volume, mark, async () => {
      await rename(path, kept);
      try {
        await this.#requireSame(kept, volume);
        await confirm();
      } catch (error) {
        await renameNew(kept, path, volume.name);
        throw error;
      }
    });
    await syncDirectory(dirname(kept));
    await syncDirectory(dirname(path));
  }

  async restore(
    id: string,
    name: string,
    identify: Identify,
    isBack: (name: string) => boolean,
  ): Promise<void> {
    const kept = this.#place.kept(id);
    await this.#requireStorage();
    if (!(await exists(kept)))
      throw new StowageError('volume-not-found', `${id} is not in the trash of the pool any more`);
    const back = await this.#otherName(kept, isBack);
    if (back !== undefined && back !== name) {
      await unlink(kept);
      throw new StowageError('volume-exists', `it is back already, as '${back}'`);
    }
    if (back === undefined) await this.#refuseExisting(name);
    await this.#publish(kept, name, identify);
    await syncDirectory(dirname(kept));
  }

  /** The name that a restore before a kill has given a file. Another link to it is a volume of its own. */
  async #otherName(kept: string, isBack: (name: string) => boolean): Promise<string | undefined> {
    const { ino, dev, nlink } = await lstat(kept);
    if (nlink < 2) return undefined;
    for await (const { directory, entries } of this.#entries())
      for (const { entry, name } of entries.filter((each) => isBack(each.name))) {
        const there = statOf(join(directory, entry), name);
        if (there?.isFile() && Number(there.ino) === ino && Number(there.dev) === dev) return name;
      }
    return undefined;
  }

  async wipeTrashed(id: string, fromBytes: number, mostBytes: number): Promise<WipedPart> {
    await this.#requireStorage();
    const kept = this.#place.kept(id);
    if (!(await exists(kept))) {
      await this.#requireStorage();
      throw new StowageError('volume-not-found', `${id} is not in the trash of the pool any more`);
    }
    return wipePart(kept, fromBytes, mostBytes);
  }

  async purge(id: string): Promise<void> {
    await this.#requireStorage();
    const kept = this.#place.kept(id);
    if (await exists(kept)) await this.#place.remove(kept);
    else await this.#requireStorage();
  }

  async trashed(): Promise<string[]> {
    await this.#requireStorage();
    const ids = await this.#place.keptIds();
    // It may have gone meanwhile.
    await this.#requireStorage();
    return ids;
  }

  async *orphans(isVolume: (name: string) => boolean): AsyncGenerator<FoundOrphan> {
    await this.#requireStorage();
    yield* orphansIn(this.#path, this.#layout, this.#place, async (name, path) => {
      if (isVolume(name)) return true;
      const found = await describeEntry(path, name, undefined, this.#storage);
      return found !== undefined;
    });
  }

  resize(volume: FoundVolume, capacityBytes: number, shrink: boolean, signal?: AbortSignal): Promise<void> {
    return this.#with(volume, 'write', (driver, opened) =>
      driver.resize(opened, capacityBytes, shrink, { signal, passphrase: volume.passphrase }),
    );
  }

  async clone(volume: FoundVolume, target: string, identify: Identify, signal?: AbortSignal): Promise<void> {
    this.#refuseOtherFormat(target, volume.format);
    await this.#refuseExisting(target);
    await using scratch = this.#place.scratch();
    const source = this.#at(volume.name);
    if (volume.format === 'unknown')
      throw new StowageError('volume-damaged', `volume '${volume.name}' cannot be read`);
    if (volume.backingStore && volume.encryption)
      throw new StowageError(
        'not-supported',
        'an encrypted volume that stands on another one is not copied here',
      );
    if (volume.backingStore) await this.#copyWhole(volume, scratch.path, signal);
    else if (isImageFormat(volume.format)) await copyFileFast(source, scratch.path, { signal });
    else await this.#held(volume.name, (held) => DIRECTORY_FORMATS.ploop.clone(held, scratch.path, signal));
    // The copy of a base is no base.
    if (volume.isBase) await setFileBase(scratch.path, false);
    await this.#publish(scratch.path, target, identify);
  }

  /** What an overlay shows, with all that it stands on. Throws where that lies in no pool of this host. */
  async #copyWhole(volume: FoundVolume, path: string, signal?: AbortSignal): Promise<void> {
    const opened = await this.open(volume, 'content');
    await opened[Symbol.asyncDispose]();
    await using source = await FileImage.open(this.#at(volume.name), 'read');
    await using target = await FileImage.open(path, 'create');
    await flatten(source, target, signal);
  }

  async wipe(
    volume: FoundVolume,
    algorithm: WipeAlgorithm,
    identify: Identify,
    signal?: AbortSignal,
  ): Promise<void> {
    if (volume.snapshotCount > 0)
      throw new StowageError(
        'volume-has-snapshots',
        'a volume with snapshots is not wiped; delete them first',
      );
    const check = (stat: BigIntStats): void => this.#refuseOther(stat, volume);
    if (volume.format === 'raw') return wipeInPlace(this.#at(volume.name), algorithm, signal, check);
    if (volume.format === 'ploop')
      return this.#held(volume.name, async (held) => {
        check(await stat(held, { bigint: true }));
        await DIRECTORY_FORMATS.ploop.wipe(held, algorithm, signal);
      });
    await wipeByReplacing(
      this.#storage,
      this.#at(volume.name),
      this.#place,
      volume,
      algorithm,
      identify,
      check,
      signal,
    );
  }

  // ---- snapshots, checks ----

  listSnapshots(volume: FoundVolume): Promise<Snapshot[]> {
    return this.#with(volume, 'read', (driver, opened) => snapshotsOf(driver).list(opened));
  }

  createSnapshot(volume: FoundVolume, id?: string): Promise<string> {
    return this.#with(volume, 'write', (driver, opened) => snapshotsOf(driver).create(opened, id));
  }

  switchSnapshot(volume: FoundVolume, id: string): Promise<void> {
    return this.#with(volume, 'write', (driver, opened) => snapshotsOf(driver).switch(opened, id));
  }

  deleteSnapshot(volume: FoundVolume, id: string, signal?: AbortSignal): Promise<void> {
    return this.#with(volume, 'write', (driver, opened) => snapshotsOf(driver).delete(opened, id, signal));
  }

  async renameSnapshot({ format }: FoundVolume): Promise<void> {
    throw keepsNames(format);
  }

  check(volume: FoundVolume, repair: boolean, signal?: AbortSignal): Promise<Finding[]> {
    return this.#with(volume, repair ? 'write' : 'read', async (driver, opened) => {
      if (driver.check) return driver.check(opened, repair, signal);
      throw new StowageError(
        'not-supported',
        `volumes of format ${driver.name} hold nothing that could be checked`,
      );
    });
  }

  // ---- moving bytes ----

  async open(volume: FoundVolume, as: Representation): Promise<OpenVolume> {
    const { name, format } = volume;
    const path = this.#at(name);
    if (format === 'unknown') throw new StowageError('volume-damaged', `volume '${name}' cannot be read`);
    await using revert = new Revert();
    const opened: { close(): Promise<void> }[] = [];
    const close = async (): Promise<void> => {
      for (const item of opened.toReversed()) await item.close();
    };
    revert.push(close);
    try {
      if (as === 'image') {
        const parts = isImageFormat(format)
          ? [{ name: '', sizeBytes: (await lstat(path)).size, dense: false }]
          : await this.#held(volume.name, (held) => DIRECTORY_FORMATS.ploop.imageParts(held));
        const images: FileImage[] = [];
        for (const part of parts) {
          const image = await FileImage.open(part.name === '' ? path : join(path, part.name), 'read');
          images.push(image);
          opened.push(image);
        }
        revert.commit();
        return { parts, sources: images, [Symbol.asyncDispose]: close };
      }
      const image = isImageFormat(format) ? await FileImage.open(path, 'read') : undefined;
      if (image) opened.push(image);
      const content =
        image && isImageFormat(format)
          ? await IMAGE_FORMATS[format].openContent(image, this.#openBacking, volume.passphrase)
          : await this.#held(volume.name, (held) =>
              DIRECTORY_FORMATS.ploop.openContent(held, this.#openBacking),
            );
      opened.push(content);
      revert.commit();
      const parts = [{ name: '', sizeBytes: content.sizeBytes, dense: false }];
      return {
        parts,
        sources: [content],
        snapshotsLeft: volume.snapshotCount,
        [Symbol.asyncDispose]: close,
      };
    } catch (error) {
      throw nameVolume(error, name);
    }
  }

  async openSnapshot({ name, format }: FoundVolume, id: string): Promise<OpenSnapshot> {
    if (format === 'unknown') throw new StowageError('volume-damaged', `volume '${name}' cannot be read`);
    await using revert = new Revert();
    const read = async <T>(driver: FormatDriver<T>, volume: T, close: () => Promise<void>) => {
      revert.push(close);
      const snapshots = snapshotsOf(driver);
      const markNow = (): Promise<string> => snapshots.markOf(volume, id);
      const mark = await markNow();
      const content = await snapshots.openContent(volume, id, this.#openBacking);
      revert.commit();
      return {
        ...{ content, mark, markNow },
        async [Symbol.asyncDispose]() {
          try {
            await content.close();
          } finally {
            await close();
          }
        },
      };
    };
    try {
      if (!isImageFormat(format)) {
        const held = await holdDirectory(this.#at(name));
        return await read(DIRECTORY_FORMATS[format], held.path, async () => held[Symbol.asyncDispose]());
      }
      const image = await FileImage.open(this.#at(name), 'read');
      return await read(IMAGE_FORMATS[format], image, () => image.close());
    } catch (error) {
      throw nameVolume(error, name);
    }
  }

  /** What an image stands on may be any file in a pool of this host, and none elsewhere: it could be any secret. */
  readonly #openBacking: OpenBacking = async ({ path }) => {
    if (/^\w+:/.test(path))
      throw new StowageError(
        'not-supported',
        `the content of an image on '${path.slice(0, 100)}' cannot be read`,
      );
    const image = await FileImage.open(resolve(this.#path, path), 'read');
    const real = resolve(await realName(image));
    const inside = [this.#path, ...this.#host.imageDirectories()].some((directory) =>
      real.startsWith(`${directory}/`),
    );
    if (inside) return image;
    await image.close();
    throw new StowageError(
      'path-escapes-pool',
      `the volume stands on ${real}, which is in no pool of this host`,
    );
  };

  async stage(spec: StageSpec, text: string): Promise<Stage> {
    const [begun] = await this.stages(spec.id);
    if (begun) return begun;
    this.#refuseOtherFormat(spec.volume, spec.format);
    await this.#refuseLoss(spec.volume, spec.replace);
    const { availableBytes } = await this.space();
    const needed = spec.parts.reduce((sum, part) => sum + (part.dense ? part.sizeBytes : 0), 0);
    if (needed > availableBytes)
      throw new StowageError(
        'no-space',
        `the volume needs ${needed} bytes, the pool has ${availableBytes} left`,
      );
    using _claim = this.#place.claim(this.#stagePath(spec.id));
    return await FileStage.begin(this.#stagePath(spec.id), this.#stagePlace, spec, text, clock.now());
  }

  get #stagePlace(): StagePlace {
    const { path, local, knownBy } = this.#storage;
    return {
      ...{ path, local, knownBy, layout: this.#layout, private: this.#place },
      at: (name) => this.#at(name),
      naming: (work) => this.#naming(work),
      refuseLoss: (...args) => this.#refuseLoss(...args),
    };
  }

  /** A transfer must not end the life of a volume by surprise, nor of its snapshots at all, nor take what is no volume. */
  async #refuseLoss(name: string, replace: boolean): Promise<void> {
    if (!replace) return this.#refuseExisting(name);
    const existing = await this.look(name);
    if (!existing) {
      if (await exists(this.#at(name)))
        throw new StowageError('path-escapes-pool', `'${name}' is there and is not a volume; it stays`);
      return;
    }
    if (existing.format === 'ploop')
      await this.#held(name, (held) => DIRECTORY_FORMATS.ploop.refuseMounted(held));
    if (existing.snapshotCount > 0)
      throw new StowageError(
        'volume-has-snapshots',
        "can't upload volume, all existing snapshots will be lost",
      );
  }

  #stagePath(id: string): string {
    return join(this.#place.path, 'stages', id);
  }

  async stages(id?: string): Promise<Stage[]> {
    const ids = id === undefined ? await readdir(join(this.#place.path, 'stages')) : [id];
    const stages: Stage[] = [];
    for (const each of ids) {
      const resumed = FileStage.resume(this.#stagePath(each), this.#stagePlace);
      // Of all stages one that cannot be read hides no other; of the one that was asked for the error is the answer.
      const stage = id === undefined ? await resumed.catch(() => undefined) : await resumed;
      if (stage) stages.push(stage);
    }
    return stages;
  }

  async dropStage(id: string): Promise<void> {
    const path = this.#stagePath(id);
    const stage = await FileStage.resume(path, this.#stagePlace).catch(() => undefined);
    if (stage) await stage.drop();
    else if (await exists(path)) await this.#place.remove(path);
  }
}

/** Where nobody need be asked. */
const MAY_GO = async (): Promise<void> => undefined;

const changedBase = (name: string): StowageError =>
  new StowageError('volume-changed', `volume '${name}' is no base any more: nothing was made`);

/** Throws `volume-damaged` for what is there and cannot be looked at. */
function statOf(path: string, name: string): Stats | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch (error) {
    throw new StowageError('volume-damaged', `'${name}' cannot be looked at: ${String(error)}`, {
      cause: error,
    });
  }
}

function snapshotsOf<T>({ snapshots, name }: FormatDriver<T>): NonNullable<FormatDriver<T>['snapshots']> {
  if (snapshots) return snapshots;
  throw new StowageError('not-supported', `volumes of format ${name} have no snapshots`);
}

/** Where an open file lies, whatever links led to it. */
async function realName(image: FileImage): Promise<string> {
  return readlink(`/proc/self/fd/${image.handle.fd}`);
}
