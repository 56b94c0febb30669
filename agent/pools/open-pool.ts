import { EventEmitter } from 'node:events';
import type { ReceivedIdentity, ReceivedStream, SentStream } from '../../shared/conf/stream.ts';
import type { WipedPart } from '../../shared/conf/trash.ts';
import type { Finding, MappedVolume, Snapshot, Volume, VolumeAttributes } from '../../shared/conf/volume.ts';
import type { WipeAlgorithm } from '../../shared/conf/wipe-algorithms.ts';
import { type TransferSpec, transferSpecSchema } from '../../shared/protocol/agent.ts';
import { clock, type Timer } from '../../shared/util/clock.ts';
import { isStowageError, StowageError } from '../../shared/util/errors.ts';
import type {
  FoundOrphan,
  FoundVolume,
  Identify,
  Identity,
  IdentityStore,
  PoolDriver,
  Space,
  Stage,
  StreamProgram,
} from '../backends/backend.ts';
import type { WantedVolume } from '../formats/format.ts';
import { IndexOfVolumes } from './index-of-volumes.ts';
import { changedWhileRead, openedSnapshot, openedVolume, readable } from './opened-volume.ts';
import type {
  KnownVolume,
  OpenedStage,
  OpenedVolume,
  Opening,
  PoolChange,
  PoolOperations,
} from './operations.ts';
import { refuseBase, refuseClones, refuseEncryption, refuseProtected } from './refusals.ts';

/** Names that changed wait so long for others: many changes come at once. */
const WATCH_DELAY_MS = 150;
/** The shortest time between two looks at everything that nobody asked for. */
const LOOK_MS = 30_000;
/** A look takes at most this part of the time: a pool that takes a second to look at is looked at every ten minutes. */
const LOOK_SHARE = 1 / 600;
/** Changed names from which a look at everything is cheaper. */
const MANY_NAMES = 20_000;

/** What says that it has more bytes than can be told is damaged: no other volume is any the worse for it. */
function refuseNoSize(found: FoundVolume): FoundVolume {
  const { capacityBytes, allocationBytes } = found;
  if (Number.isSafeInteger(capacityBytes) && Number.isSafeInteger(allocationBytes)) return found;
  const damaged = `it says that it has ${capacityBytes} bytes, and takes ${allocationBytes}: more than any volume has`;
  return { ...found, capacityBytes: 0, allocationBytes: 0, damaged };
}

/** Of block devices. */
const SECTOR_BYTES = 512;

/** Told at once. */
const MOST_ORPHANS = 10_000;

type Method = Exclude<
  keyof PoolDriver,
  'watch' | 'list' | 'look' | 'space' | 'identities' | 'start' | 'stop' | 'wipesDamaged'
>;

/**
 * A pool whose storage this process works on: its driver, what was seen in it, and who has which id. Emits `change` with
 * every difference between what was seen before and what is seen now, whoever made it; never twice the same.
 */
export class OpenPool
  extends EventEmitter<{ change: [PoolChange]; failed: [unknown] }>
  implements PoolOperations
{
  readonly #driver: PoolDriver;
  #identities: IdentityStore | undefined;
  #index: IndexOfVolumes | undefined;
  #watch: Disposable | undefined;
  #timer: Timer | undefined;
  /** Names to look at soon. */
  #changed = new Set<string>();
  #soon: Timer | undefined;
  /** Names that nothing had at one look at what has changed: at the next one they are gone. */
  readonly #goneOnce = new Set<string>();
  #looking: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  /** Names looked at or changed while a look at everything runs: what that saw of them may be older. */
  readonly #newer = new Set<string>();
  /** Names that are being given to new volumes: on record, and not there yet, or still another's. Settles when one is. */
  readonly #making = new Map<string, Promise<void>>();
  /** Looks at single names under way, and names that were given to volumes meanwhile, by the count of makes. */
  #looks = 0;
  #makes = 0;
  readonly #madeAt = new Map<string, number>();
  #stop = new AbortController();
  /** Ids that volumes must have while they are worked on, by name. */
  readonly #expected = new Map<string, string>();

  constructor(driver: PoolDriver) {
    super();
    this.#driver = driver;
  }

  // ---- life ----

  async build(overwrite?: boolean): Promise<void> {
    await this.#method('build')(overwrite);
  }

  async start(): Promise<void> {
    await this.#driver.start();
    // What was open before may be of a file system that is not mounted any more.
    await this.#close();
    try {
      await this.#open();
    } catch (error) {
      await this.#close();
      await this.#driver.stop().catch(() => undefined);
      throw error;
    }
  }

  async #open(): Promise<void> {
    this.#stop = new AbortController();
    this.#identities = await this.#driver.identities();
    const newId = (fingerprint: string): string => this.#driver.idOf?.(fingerprint) ?? clock.uuid();
    this.#index = new IndexOfVolumes(this.#identities, newId, this.#driver.linkedFormat !== undefined);
    await this.#finishStages();
    this.#watch = this.#beginToWatch();
    await this.refresh();
    await this.#guardBases();
  }

  /**
   * A kill may have come while a base was being given another name, or taken away: from now on nobody writes to it again. What cannot be
   * guarded now, as its storage takes no change, is a base all the same.
   */
  async #guardBases(): Promise<void> {
    for (const { name, isBase } of this.#seen.volumes()) {
      const found = isBase ? this.#seen.found(name) : undefined;
      if (found && this.#driver.linkedFormat)
        await this.#driver.setBase?.(found, true).catch(() => undefined);
    }
  }

  #beginToWatch(): Disposable | undefined {
    try {
      return this.#driver.watch?.((names) => this.#notice(names));
    } catch {
      // The host has no watch left to give: changes are seen when everything is looked at.
      return undefined;
    }
  }

  /** What was sealed before a kill gets its name. One that cannot keeps its stage, and the pool starts all the same. */
  async #finishStages(): Promise<void> {
    for (const stage of (await this.#driver.stages?.()) ?? [])
      if (stage.sealed)
        await this.#opened(stage)
          .publish()
          .catch(() => undefined);
  }

  /** Throws when the storage is not let go; the pool goes on then. */
  async stop(): Promise<void> {
    await this.#close();
    try {
      await this.#driver.stop();
    } catch (error) {
      await this.#open().catch((failure) => this.emit('failed', failure));
      throw error;
    }
  }

  async #close(): Promise<void> {
    this.#stop.abort(new StowageError('pool-inactive', 'the pool was stopped'));
    this.#watch?.[Symbol.dispose]();
    this.#watch = undefined;
    this.#timer?.stop();
    this.#soon?.stop();
    this.#soon = undefined;
    this.#changed.clear();
    this.#goneOnce.clear();
    await this.#looking?.catch(() => undefined);
    this.#index = undefined;
    const identities = this.#identities;
    this.#identities = undefined;
    await identities?.[Symbol.asyncDispose]();
  }

  /** With the agent: what is on the storage stays as it is. */
  close(): void {
    // Storage that does not answer keeps nobody from ending.
    this.#close().catch((error) => this.emit('failed', error));
  }

  async delete(): Promise<void> {
    await this.#method('delete')();
  }

  space(): Promise<Space> {
    return this.#driver.space();
  }

  /** A method that the backend has, bound to its driver. Throws `not-supported`. */
  #method<K extends Method>(name: K): NonNullable<PoolDriver[K]> {
    const found = this.#driver[name];
    if (typeof found !== 'function')
      throw new StowageError('not-supported', `storage pool doesn't support ${name}`);
    return found.bind(this.#driver) as NonNullable<PoolDriver[K]>;
  }

  get #seen(): IndexOfVolumes {
    if (!this.#index) throw new StowageError('pool-inactive', 'the pool is not started');
    return this.#index;
  }

  // ---- looking ----

  refresh(): Promise<void> {
    if (!this.#looking) return this.#lookAtAll();
    // What runs may have passed what the caller wants to see: all who come meanwhile share the next one.
    this.#next ??= this.#looking
      .catch(() => undefined)
      .then(() => {
        this.#next = undefined;
        return this.#lookAtAll();
      });
    return this.#next;
  }

  #lookAtAll(): Promise<void> {
    this.#timer?.stop();
    const began = clock.monotonicMs();
    this.#looking = this.#listEverything().finally(() => {
      this.#looking = undefined;
      this.#newer.clear();
      const took = clock.monotonicMs() - began;
      if (this.#stop.signal.aborted) return;
      this.#timer = clock.after(
        Math.max(LOOK_MS, took / LOOK_SHARE),
        () => void this.refresh().catch((error) => this.emit('failed', error)),
        false,
      );
    });
    return this.#looking;
  }

  async #listEverything(): Promise<void> {
    const index = this.#seen;
    this.#newer.clear();
    const missing = new Set(index.names());
    const onRecord = this.#identities!;
    for await (const batch of this.#driver.list((name) => index.known(name), this.#stop.signal)) {
      for (const { name } of batch) missing.delete(name);
      await this.#take(
        batch.filter(
          (found): found is FoundVolume =>
            !('unchanged' in found) && !this.#newer.has(found.name) && !this.#making.has(found.name),
        ),
      );
    }
    this.#stop.signal.throwIfAborted();
    index.forgetDisplaced();
    const gone: PoolChange['gone'] = [];
    for (const name of missing) {
      const before = this.#newer.has(name) || this.#making.has(name) ? undefined : index.drop(name);
      if (before) gone.push({ name, id: before.id });
    }
    // Ids of what went away while the pool was not looked at.
    for (const [name] of [...onRecord.entries()])
      if (!index.get(name) && !this.#newer.has(name) && !this.#making.has(name)) await index.forget(name);
    if (gone.length > 0) this.emit('change', { volumes: [], gone });
  }

  /** Notes what was found, and tells of what is news once its ids are durable. Gives what is still there. */
  async #take(all: FoundVolume[]): Promise<FoundVolume[]> {
    const index = this.#seen;
    const volumes: Volume[] = [];
    const gone: PoolChange['gone'] = [];
    const saved: Promise<void>[] = [];
    const taken: FoundVolume[] = [];
    for (const each of all.map(refuseNoSize)) {
      const found = await this.#asOnRecord(each);
      if (!found) continue;
      taken.push(found);
      const moved = await this.#movedFrom(found);
      const put = index.put(found, moved?.name);
      saved.push(put.saved);
      if (put.news) volumes.push(put.news);
      // Nobody is told of a volume under two names.
      const leftId = moved?.isFree ? index.leave(moved.name, found.fingerprint) : undefined;
      if (leftId !== undefined) gone.push({ name: moved!.name, id: leftId });
    }
    // Where no space is left to put a new id on record, the volume is there all the same; the record follows.
    await Promise.all(saved).catch((error) => {
      if (error.code !== 'ENOSPC' && error.code !== 'EDQUOT' && error.code !== 'EROFS') throw error;
    });
    if (volumes.length + gone.length > 0) this.emit('change', { volumes, gone });
    return taken;
  }

  /**
   * A volume that is on record under another name has the format that is on record: a guest may have written a header of
   * another one into it. Undefined where it has gone meanwhile.
   */
  async #asOnRecord(found: FoundVolume): Promise<FoundVolume | undefined> {
    const { name, fingerprint } = found;
    const format = this.#seen.formatOf(name, fingerprint);
    if (format === undefined || format === found.format) return found;
    try {
      return await this.#driver.look(name, { fingerprint, format });
    } catch (error) {
      // A link took its place.
      if (isStowageError(error, 'path-escapes-pool')) return undefined;
      throw error;
    }
  }

  /**
   * The name that a volume had before, when it has it no more: a link to the same file is another volume. `isFree` where
   * nothing has that name by now.
   */
  async #movedFrom({
    name,
    fingerprint,
  }: FoundVolume): Promise<{ name: string; isFree: boolean } | undefined> {
    const other = this.#seen.otherName(name, fingerprint);
    if (other === undefined) return undefined;
    // What cannot be looked at is there.
    const there = await this.#driver.look(other).catch(() => 'unknown' as const);
    if (there === undefined || there === 'unknown') return { name: other, isFree: there === undefined };
    return there.fingerprint === fingerprint ? undefined : { name: other, isFree: false };
  }

  #notice(names: readonly string[] | undefined): void {
    if (names === undefined || this.#changed.size > MANY_NAMES) {
      this.#changed.clear();
      this.#goneOnce.clear();
      void this.refresh().catch((error) => this.emit('failed', error));
      return;
    }
    for (const name of names) this.#changed.add(name);
    this.#soon ??= clock.after(WATCH_DELAY_MS, () => {
      this.#soon = undefined;
      const changed = [...this.#changed];
      this.#changed.clear();
      void this.#lookAtEach(changed).catch((error) => this.emit('failed', error));
    });
  }

  async #lookAtEach(names: string[]): Promise<void> {
    // What is there first: what is gone under one name may be there under another.
    const gone: string[] = [];
    for (const name of names)
      if (await this.#lookAtChanged(name, true)) this.#goneOnce.delete(name);
      else gone.push(name);
    // A name may be gone by a renaming whose other name has not been told yet: the volume keeps its id and its format.
    const again: string[] = [];
    for (const name of gone)
      if (this.#goneOnce.delete(name)) await this.#lookAtChanged(name, false);
      else again.push(name);
    for (const name of again) this.#goneOnce.add(name);
    if (again.length > 0) this.#notice(again);
  }

  /** As {@link #lookAt}; what cannot be looked at concerns no other volume. False where nothing has the name. */
  async #lookAtChanged(name: string, keepGone: boolean): Promise<boolean> {
    if (!this.#index) return true;
    try {
      return (await this.#lookAt(name, { keepGone })) !== undefined;
    } catch (error) {
      // A link took its place.
      if (isStowageError(error, 'path-escapes-pool')) this.#vanished(name);
      else if (!isStowageError(error, 'volume-damaged')) throw error;
      return true;
    }
  }

  /**
   * Looks at one name, and tells of what is new about it. While the name is being given to a new volume, what is there is what
   * was there before: its maker looks when that is over. With `keepGone` a volume that is gone is not told of yet.
   */
  async #lookAt(name: string, { asMaker = false, keepGone = false } = {}): Promise<FoundVolume | undefined> {
    for (;;) {
      if (this.#making.has(name) && !asMaker) return this.#seen.found(name);
      const began = this.#makes;
      this.#looks++;
      let found: FoundVolume | undefined;
      let stale: boolean;
      try {
        found = await this.#driver.look(name, this.#seen.known(name));
      } finally {
        stale = (this.#madeAt.get(name) ?? 0) > began;
        if (--this.#looks === 0) this.#madeAt.clear();
      }
      if (this.#looking) this.#newer.add(name);
      if (this.#making.has(name) && !asMaker) return this.#seen.found(name);
      // What was seen may be from before the name was given to another volume.
      if (stale && !asMaker) continue;
      const [taken] = found ? await this.#take([found]) : [];
      if (!taken && !keepGone) this.#vanished(name);
      return taken;
    }
  }

  #vanished(name: string): void {
    const before = this.#seen.drop(name);
    if (before) this.emit('change', { volumes: [], gone: [{ name, id: before.id }] });
  }

  async look(name: string): Promise<Volume> {
    await this.#there(name);
    return this.#seen.get(name)!;
  }

  async expect(name: string, id: string | undefined): Promise<void> {
    if (id === undefined) this.#expected.delete(name);
    else this.#expected.set(name, id);
  }

  async #there(name: string): Promise<FoundVolume> {
    const found = await this.#lookAt(name);
    if (!found) throw new StowageError('volume-not-found', `the pool has no volume '${name}'`);
    return found;
  }

  /** The volume of a name, and no other than the one that is expected. */
  async #find(name: string): Promise<FoundVolume> {
    const found = await this.#there(name);
    const expected = this.#expected.get(name);
    if (expected !== undefined && this.#seen.get(name)?.id !== expected)
      throw new StowageError(
        'volume-changed',
        `another volume is called '${name}' by now; it stays as it is`,
      );
    return found;
  }

  /** As it was just found. Throws `volume-damaged` for one that nothing can be done with. */
  async #sound(name: string): Promise<FoundVolume> {
    const found = await this.#find(name);
    if (found.damaged)
      throw new StowageError('volume-damaged', `volume '${name}' cannot be used: ${found.damaged}`);
    return found;
  }

  /** As {@link #sound}, of a volume that can be read: what that changes of it is no change by somebody else. */
  async #ready(name: string): Promise<FoundVolume> {
    const found = await this.#sound(name);
    const changed = await this.#driver.activate?.(found);
    return changed ? this.#sound(name) : found;
  }

  // ---- changing ----

  /** Puts a new volume on record before it has its name. */
  #identifying(
    name: string,
    more: Pick<Volume, 'format' | 'encryption' | 'parentId' | 'isBase' | 'baseId'> &
      VolumeAttributes & { id?: string; transfer?: string },
  ): Identify {
    return async (fingerprint) => {
      const format = more.format === 'unknown' ? undefined : more.format;
      const id = more.id ?? this.#seen.newId(fingerprint);
      const before = this.#seen.identity(name);
      const formerly =
        before?.id === id
          ? {
              fingerprint: before.fingerprint,
              format: before.format,
              transfer: before.transfer,
              secret: before.secret,
              parentId: before.parentId,
            }
          : undefined;
      const { transfer, encryption, parentId } = more;
      // A new state of a volume keeps what people said of that.
      const { notes, isProtected } = before?.id === id ? before : more;
      const now = { id, fingerprint, format, transfer, secret: encryption?.secret, parentId };
      await this.#seen.identify(name, {
        ...now,
        isBase: more.isBase,
        baseId: more.baseId,
        notes,
        isProtected,
        formerly,
      });
    };
  }

  /** Runs a change of one volume; whatever comes of it is looked at and told. */
  async #change<T>(name: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } finally {
      await this.#lookAt(name).catch(() => undefined);
    }
  }

  /**
   * Runs what gives a name to a new volume, one after the other where several want one name. No look meanwhile changes what is
   * on record of the name; after an error it is the record of what has the name.
   */
  async #make(name: string, work: () => Promise<void>): Promise<Volume> {
    return this.#holding(name, () => this.#makeHeld(name, work));
  }

  /** Runs `work` while no look changes what is known of a name, one after the other where several want it. */
  async #holding<T>(name: string, work: () => Promise<T>): Promise<T> {
    while (this.#making.has(name)) await this.#making.get(name);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#making.set(name, promise);
    try {
      return await work();
    } finally {
      this.#making.delete(name);
      this.#makes++;
      if (this.#looks > 0) this.#madeAt.set(name, this.#makes);
      resolve();
    }
  }

  async #makeHeld(name: string, work: () => Promise<void>): Promise<Volume> {
    // Throws when the pool is being stopped: before anybody could wait for this one.
    const before = this.#seen.identity(name);
    let done = false;
    try {
      await work();
      done = true;
      if (!(await this.#lookAt(name, { asMaker: true })))
        throw new StowageError('volume-not-found', `volume '${name}' was taken away as soon as it was there`);
      return this.#seen.get(name)!;
    } catch (error) {
      // Storage that is away is looked at when it is back.
      if (!done) await this.#settle(name, before).catch(() => undefined);
      await this.#lookAt(name, { asMaker: true }).catch(() => undefined);
      throw error;
    }
  }

  /** Puts back what was on record, unless the new volume has the name in spite of the error. */
  async #settle(name: string, before: Identity | undefined): Promise<void> {
    const record = this.#seen.identity(name);
    // The record of a volume that was to be replaced tells of both: it is right for either.
    if (record === before || record?.formerly !== undefined) return;
    const there = await this.#driver.look(name, this.#seen.known(name)).catch(() => undefined);
    // Where files are known by nothing but their names both have one fingerprint.
    const isNew = there?.fingerprint === record?.fingerprint && there?.fingerprint !== before?.fingerprint;
    if (!isNew) await this.#seen.restore(name, before);
  }

  async create(volume: WantedVolume, signal?: AbortSignal): Promise<Volume> {
    const { name, format, encryption } = volume;
    refuseEncryption(format, encryption, true);
    return this.#make(name, () =>
      this.#method('create')(volume, this.#identifying(name, { format, encryption }), signal),
    );
  }

  async clone(name: string, target: string, signal?: AbortSignal): Promise<Volume> {
    const source = await this.#ready(name);
    const { etag, encryption } = this.#seen.get(name)!;
    const identify = this.#identifying(target, { format: source.format, encryption });
    return this.#make(target, () =>
      this.#method('clone')(
        source,
        target,
        async (fingerprint) => {
          // Before the clone has its name: what was read is one state of the source.
          if ((await this.look(name)).etag !== etag) throw changedWhileRead(name);
          await identify(fingerprint);
        },
        signal,
      ),
    );
  }

  async cloneLinked(name: string, target: string, snapshot?: string, signal?: AbortSignal): Promise<Volume> {
    if (snapshot !== undefined) return this.#cloneSnapshot(name, snapshot, target);
    const base = await this.#sound(name);
    const { id, isBase, encryption } = this.#seen.get(name)!;
    const clone = this.#method('cloneLinked');
    if (!isBase)
      throw new StowageError(
        'invalid-argument',
        `volume '${name}' is no base: what stands on it would change with it; make it a base first`,
      );
    const format = this.#driver.linkedFormat ?? base.format;
    const identify = this.#identifying(target, { format, encryption, parentId: id });
    return this.#make(target, () => clone(base, target, identify, signal));
  }

  /** The storage alone knows what stands on a snapshot: it may go once nothing does. */
  async #cloneSnapshot(name: string, id: string, target: string): Promise<Volume> {
    const volume = await this.#sound(name);
    const { format, encryption } = this.#seen.get(name)!;
    const clone = this.#method('cloneSnapshot');
    const identify = this.#identifying(target, { format, encryption });
    return this.#make(target, () => clone(volume, id, target, identify));
  }

  async setBase(name: string, isBase: boolean): Promise<Volume> {
    const found = await this.#sound(name);
    const setBase = this.#method('setBase');
    await this.#refuseMapped(found);
    if (!isBase) await this.#refuseClones(name);
    const before = this.#seen.get(name)!;
    // Only what is on record too is a base: a kill in between leaves none.
    const baseId = this.#seen.identity(name)?.baseId ?? clock.uuid();
    if (isBase) await this.#seen.keep(name, { isBase, baseId });
    await this.#change(name, () => setBase(found, isBase));
    if (!isBase) {
      // One may have been made meanwhile, while this host was frozen.
      await this.#refuseClonesOf(before).catch(async (error) => {
        await this.#change(name, () => setBase(found, true));
        throw error;
      });
      // What it holds is nobody's copy from now on.
      await this.#seen.keep(name, { isBase: undefined, baseId: undefined, transfer: undefined });
    }
    return this.look(name);
  }

  async rename(name: string, target: string): Promise<Volume> {
    const found = await this.#find(name);
    await this.#refuseMapped(found);
    await this.#refuseClones(name);
    const record = this.#seen.identity(name)!;
    const rename = this.#method('rename');
    const identify = (fingerprint: string) => this.#seen.identify(target, { ...record, fingerprint });
    await this.#taking(name, async (confirm) => {
      await this.#make(target, () => rename(found, target, identify, confirm));
    });
    return this.look(target);
  }

  async setAttributes(name: string, { notes, isProtected }: VolumeAttributes): Promise<Volume> {
    await this.#find(name);
    await this.#seen.keep(name, {
      ...(notes !== undefined && { notes: notes || undefined }),
      ...(isProtected !== undefined && { isProtected: isProtected || undefined }),
    });
    return this.look(name);
  }

  async #refuseClones(name: string): Promise<void> {
    await this.#refuseClonesOf(this.#seen.get(name)!);
  }

  async #refuseClonesOf(volume: Volume): Promise<void> {
    if (!volume.isBase) return;
    // Other hosts may have made clones of it that nobody has told of.
    if (!this.#watch) await this.refresh();
    refuseClones(volume, this.#seen.clonesOf(volume));
  }

  /** Throws for a volume that must not go away. */
  async #refuseTaking(found: FoundVolume): Promise<void> {
    refuseProtected(this.#seen.get(found.name)!);
    await this.#refuseMapped(found);
    await this.#refuseClones(found.name);
  }

  /** Throws for a volume whose content must not change. */
  async #refuseChanging(found: FoundVolume): Promise<void> {
    refuseBase(this.#seen.get(found.name)!);
    await this.#refuseMapped(found);
  }

  async refuseMapped(name: string): Promise<void> {
    await this.#refuseMapped(await this.#find(name));
  }

  /** Throws `volume-in-use` for a file that a loop device of this host stands on. */
  async #refuseMapped(found: FoundVolume): Promise<void> {
    const device = await this.#driver.mappedAs?.(found);
    if (device === undefined) return;
    throw new StowageError(
      'volume-in-use',
      `volume '${found.name}' is mapped as ${device} of its host; unmap it first, by 'vol unmap'`,
    );
  }

  async remove(
    name: string,
    { etag, deleteSnapshots }: { etag?: string; deleteSnapshots?: boolean } = {},
  ): Promise<void> {
    const found = await this.#find(name);
    await this.#refuseTaking(found);
    if (found.snapshotCount > 0 && !deleteSnapshots)
      throw new StowageError(
        'volume-has-snapshots',
        `volume '${name}' has ${found.snapshotCount} snapshots, which would go with it`,
      );
    const { etag: now } = this.#seen.get(name)!;
    if (etag !== undefined && etag !== now)
      throw new StowageError('volume-changed', `volume '${name}' was changed since it was read; it stays`);
    const remove = this.#method('remove');
    const mark = etag === undefined ? undefined : found.mark;
    await this.#taking(name, (confirm) => remove(found, mark, confirm));
  }

  /**
   * Runs what takes a volume from its name. Of a base `confirm` looks once more for clones: somebody else may have seen that it is there
   * while this host was frozen, and made one.
   */
  async #taking(name: string, work: (confirm?: () => Promise<void>) => Promise<void>): Promise<void> {
    const volume = this.#seen.get(name)!;
    await this.#change(name, () =>
      volume.isBase ? this.#holding(name, () => work(() => this.#refuseClonesOf(volume))) : work(),
    );
  }

  async trash(name: string, id: string, etag: string): Promise<void> {
    const found = await this.#find(name);
    await this.#refuseTaking(found);
    if (this.#seen.get(name)?.etag !== etag)
      throw new StowageError('volume-changed', `volume '${name}' was changed since it was read; it stays`);
    const trash = this.#method('trash');
    await this.#taking(name, (confirm) => trash(found, id, found.mark, confirm));
  }

  async restore(id: string, name: string, was: KnownVolume): Promise<Volume> {
    const identify = this.#identifying(name, was);
    const isBack = (other: string): boolean => this.#seen.identity(other)?.id === was.id;
    const volume = await this.#make(name, () => this.#method('restore')(id, name, identify, isBack));
    return was.isBase ? this.setBase(name, true) : volume;
  }

  wipeTrashed(id: string, fromBytes: number, mostBytes: number): Promise<WipedPart> {
    return this.#method('wipeTrashed')(id, fromBytes, mostBytes);
  }

  async purge(id: string): Promise<void> {
    await this.#method('purge')(id);
  }

  async trashed(): Promise<string[]> {
    return (await this.#driver.trashed?.()) ?? [];
  }

  async orphans(): Promise<FoundOrphan[]> {
    const all: FoundOrphan[] = [];
    const isVolume = (name: string): boolean => this.#seen.get(name) !== undefined;
    for await (const found of this.#driver.orphans?.(isVolume) ?? []) {
      all.push(found);
      if (all.length === MOST_ORPHANS) break;
    }
    return all;
  }

  async resize(
    name: string,
    capacityBytes: number,
    shrink: boolean,
    passphrase?: string,
    signal?: AbortSignal,
  ): Promise<Volume> {
    const found = { ...(await this.#sound(name)), passphrase };
    await this.#refuseChanging(found);
    if (capacityBytes < found.capacityBytes) refuseProtected(this.#seen.get(name)!);
    await this.#change(name, () => this.#method('resize')(found, capacityBytes, shrink, signal));
    return this.look(name);
  }

  async setSecret(name: string, secret: string, passphrase: string | undefined): Promise<Volume> {
    if (!(await this.look(name)).encryption)
      throw new StowageError('invalid-argument', `volume '${name}' is not encrypted`);
    const opened = await this.open(name, { as: 'content', passphrase });
    await opened[Symbol.asyncDispose]();
    await this.#seen.keep(name, { secret });
    return this.look(name);
  }

  async wipe(
    name: string,
    algorithm: WipeAlgorithm,
    passphrase?: string,
    signal?: AbortSignal,
  ): Promise<Volume> {
    const whole = this.#driver.wipesDamaged ? await this.#find(name) : await this.#sound(name);
    refuseProtected(this.#seen.get(name)!);
    await this.#refuseChanging(whole);
    const { id, encryption } = this.#seen.get(name)!;
    const found = { ...whole, encryption, passphrase };
    // A volume that is replaced by an empty one of the same name is the same volume.
    const identify = this.#identifying(name, { id, format: found.format, encryption });
    return this.#make(name, () => this.#method('wipe')(found, algorithm, identify, signal));
  }

  async listSnapshots(name: string): Promise<Snapshot[]> {
    return this.#method('listSnapshots')(await this.#sound(name));
  }

  async createSnapshot(name: string, id?: string): Promise<string> {
    const found = await this.#sound(name);
    await this.#refuseChanging(found);
    return this.#change(name, () => this.#method('createSnapshot')(found, id));
  }

  async switchSnapshot(name: string, id: string): Promise<void> {
    const found = await this.#sound(name);
    refuseProtected(this.#seen.get(name)!);
    await this.#refuseChanging(found);
    await this.#change(name, () => this.#method('switchSnapshot')(found, id));
  }

  async deleteSnapshot(name: string, id: string, signal?: AbortSignal): Promise<void> {
    const found = await this.#sound(name);
    await this.#refuseChanging(found);
    await this.#change(name, () => this.#method('deleteSnapshot')(found, id, signal));
  }

  async renameSnapshot(name: string, id: string, to: string): Promise<void> {
    const found = await this.#sound(name);
    await this.#refuseChanging(found);
    await this.#change(name, () => this.#method('renameSnapshot')(found, id, to));
  }

  async check(name: string, repair: boolean, signal?: AbortSignal): Promise<Finding[]> {
    const found = await this.#find(name);
    if (repair) await this.#refuseChanging(found);
    return this.#change(name, () => this.#method('check')(found, repair, signal));
  }

  async map(name: string): Promise<MappedVolume> {
    const found = await this.#ready(name);
    const { format, capacityBytes } = this.#seen.get(name)!;
    if (format !== 'raw')
      throw new StowageError(
        'not-supported',
        `only a raw volume is a block device; '${name}' is ${format}: a guest can be given it as it is, see 'vol blockdev'`,
      );
    if (capacityBytes % SECTOR_BYTES !== 0)
      throw new StowageError(
        'not-supported',
        `'${name}' has ${capacityBytes} bytes, and a block device whole sectors of ${SECTOR_BYTES}: its end would be missing; make it larger first, by 'vol resize'`,
      );
    return this.#method('map')(found);
  }

  async unmap(name: string): Promise<string[]> {
    return this.#method('unmap')(await this.#find(name));
  }

  async mappedAs(name: string): Promise<string | undefined> {
    return this.#driver.mappedAs?.(await this.#find(name));
  }

  // ---- moving bytes ----

  async open(
    name: string,
    { as, snapshot, passphrase }: Opening,
    signal?: AbortSignal,
  ): Promise<OpenedVolume> {
    const found = { ...(await this.#ready(name)), passphrase };
    const volume = readable(this.#seen.get(name)!);
    if (snapshot === undefined)
      return openedVolume(volume, await this.#method('open')(found, as, signal), () => this.look(name));
    if (as !== 'content')
      throw new StowageError('not-supported', 'a snapshot is read as content: it has no image of its own');
    return openedSnapshot(volume, snapshot, await this.#method('openSnapshot')(found, snapshot));
  }

  async beginSending(name: string, stream: SentStream): Promise<StreamProgram> {
    const found = await this.#sound(name);
    const { format } = this.#seen.get(name)!;
    if (format !== 'raw')
      throw new StowageError(
        'not-supported',
        `only raw volumes are sent as streams of their storage; '${name}' is ${format}`,
      );
    return this.#method('beginSending')(found, stream);
  }

  async beginReceiving(name: string, stream: ReceivedStream = {}): Promise<StreamProgram> {
    if (stream.base === undefined) return this.#method('beginReceiving')(name);
    const onto = this.#method('beginReceivingOnto');
    const found = await this.#sound(name);
    refuseProtected(this.#seen.get(name)!);
    await this.#refuseChanging(found);
    return onto(found, stream);
  }

  async endReceiving(
    id: string,
    name: string,
    stream: ReceivedStream,
    identity: ReceivedIdentity = {},
    signal?: AbortSignal,
  ): Promise<Volume> {
    if (stream.base !== undefined) {
      await this.#change(name, () => this.#method('endReceivingOnto')(id, stream));
      return this.look(name);
    }
    const identified = this.#identifying(name, { ...identity, format: 'raw' });
    const identify: Identify = async (fingerprint) => {
      // Until it has its name.
      signal?.throwIfAborted();
      await identified(fingerprint);
    };
    return this.#make(name, () => this.#method('endReceiving')(id, name, stream, identify));
  }

  async dropStream(id: string): Promise<void> {
    await this.#driver.dropStream?.(id);
  }

  async stage(spec: TransferSpec): Promise<OpenedStage> {
    if (this.#seen.ofTransfer(spec.id) !== undefined && (await this.stages(spec.id)).length === 0)
      throw new StowageError('job-state', 'this transfer was committed before');
    await this.refuseStage(spec);
    return this.#opened(await this.#method('stage')({ ...spec }, JSON.stringify(spec)));
  }

  async refuseStage(spec: TransferSpec): Promise<void> {
    refuseEncryption(spec.format, spec.encryption, spec.representation === 'content');
    const there = spec.replace ? await this.#lookAt(spec.volume) : undefined;
    if (there) {
      refuseProtected(this.#seen.get(spec.volume)!);
      await this.#refuseChanging(there);
    }
    if (there && there.snapshotCount > 0)
      throw new StowageError(
        'volume-has-snapshots',
        `can't upload volume, all existing snapshots will be lost: '${spec.volume}' has ${there.snapshotCount}; delete them first`,
      );
  }

  async stages(id?: string): Promise<OpenedStage[]> {
    const opened: OpenedStage[] = [];
    for (const stage of (await this.#driver.stages?.(id)) ?? []) opened.push(this.#opened(stage));
    return opened;
  }

  async dropStage(id: string): Promise<void> {
    await this.#driver.dropStage?.(id);
  }

  async committed(transfer: string): Promise<Volume | undefined> {
    const name = this.#seen.ofTransfer(transfer);
    if (name === undefined || (await this.stages(transfer)).length > 0) return undefined;
    return this.look(name);
  }

  #opened(stage: Stage): OpenedStage {
    const spec = transferSpecSchema.parse(JSON.parse(stage.spec));
    const { volume: name, format, id: transfer, encryption, notes, isBase } = spec;
    const publish = async (): Promise<Volume> => {
      const before = this.#seen.identity(name);
      // An upload over a volume is a new state of that volume; taken up after a kill, it is so still.
      const kept = spec.replace || before?.transfer === transfer ? before?.id : undefined;
      const id = spec.volumeId ?? kept;
      const replaced = spec.replace ? await this.#lookAt(name) : undefined;
      if (replaced) await this.#refuseMapped(replaced);
      const volume = await this.#make(name, () =>
        stage.publish(this.#identifying(name, { id, format, transfer, encryption, notes })),
      );
      // While the stage is there a kill makes this begin anew.
      const made = isBase && this.#driver.setBase ? await this.setBase(name, true) : volume;
      await stage.drop();
      return made;
    };
    return {
      spec,
      get sealed() {
        return stage.sealed;
      },
      get note() {
        return stage.note;
      },
      get touchedAt() {
        return stage.touchedAt;
      },
      images: () => stage.images(),
      journal: () => stage.journal(),
      seal: (note, passphrase, signal) => stage.seal(note, passphrase, signal),
      publish,
      drop: () => stage.drop(),
      [Symbol.asyncDispose]: () => stage[Symbol.asyncDispose](),
    };
  }
}
