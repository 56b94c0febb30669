import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { Pool, PoolDefinition } from '../../shared/conf/pool.ts';
import type { PoolForecast, PoolLimits } from '../../shared/conf/pool-usage.ts';
import type { TrashedVolume } from '../../shared/conf/trash.ts';
import type { Volume } from '../../shared/conf/volume.ts';
import type { AgentEvent } from '../../shared/protocol/agent.ts';
import { clock, sleep, type Timer } from '../../shared/util/clock.ts';
import { isStowageError, StowageError, toStowageError } from '../../shared/util/errors.ts';
import type { Space } from '../backends/backend.ts';
import { releaseMemory } from '../host/memory.ts';
import type { RecordLog } from '../host/record-log.ts';
import { Kept } from './kept.ts';
import type { OpenPool } from './open-pool.ts';
import type { PoolChange, PoolOperations } from './operations.ts';
import { type Overlay, Overlays } from './overlays.ts';
import { PoolSpace } from './pool-space.ts';
import type { RemotePool } from './remote-pool.ts';
import { Trash } from './trash.ts';
import { pagesOf, VolumeLog } from './volume-log.ts';
import { within } from './within.ts';

/** Changes of volumes are followed by a look at the space, at most so often. */
const SPACE_DELAY_MS = 250;
/** Longest that storage may take to tell its size, or to let go of its pool, before it counts as away. */
const SILENCE_MS = Number(process.env.STOWAGE_STORAGE_TIMEOUT_MS ?? 15_000);
const POLL_MS = 2 * SILENCE_MS;
/** Longest that a start may take without telling of a volume: a server may be slow to mount. */
const START_SILENCE_MS = 4 * SILENCE_MS;
/** How often it is looked whether a killed process has ended. */
const LOOK_MS = 100;
/** A first look at so many leaves much behind that nobody needs. */
const MANY_VOLUMES = 20_000;

/** Ids of storage are of any form, and told in one. */
const hashOf = (id: string): string => createHash('sha256').update(id).digest('hex').slice(0, 32);

const NO_TRASH = { volumeCount: 0, allocationBytes: 0 };

/** What a pool has of its agent. */
export interface PoolHost {
  emit(event: AgentEvent): void;
  /** On the host's own disk, for this pool alone. */
  stateDirectory(): Promise<string>;
  /** Lets go of storage that does not answer. */
  release?(): Promise<void>;
  /** Whether volumes can be made in it: else how full it is says nothing. */
  readonly makesVolumes: boolean;
}

/**
 * One defined pool and what is known of it. It tries again by itself while its storage is away. One change of its life
 * comes after the other.
 */
export class HostedPool {
  #definition: PoolDefinition;
  readonly log = new VolumeLog();
  readonly #pool: OpenPool | RemotePool;
  readonly #host: PoolHost;
  readonly #overlays: Overlays;
  readonly #space: PoolSpace;
  #isKnown = true;
  #state: Pool['state'] = 'inactive';
  #reason: string | undefined;
  #awaitsSecret: Pool['awaitsSecret'];
  #since = clock.now();
  #storageId: string | undefined;
  readonly #trash: Kept<Trash>;
  #trashSizes = NO_TRASH;
  /** Whether a start has told what is there, and nothing has ended since: changes are news then. */
  #isFollowed = false;
  /** The volumes that a start under way has told. */
  #started: Map<string, Volume> | undefined;
  /** Called when a start gets on. */
  #progress: (() => void) | undefined;
  /** A start or stop that nobody waits for any more. */
  #ending: Promise<unknown> = Promise.resolve();
  /** Ends the start under way. */
  #giveUp: ((error: StowageError) => void) | undefined;
  #poll: Timer | undefined;
  #spaceSoon: Timer | undefined;
  /** The next try to get at storage that is away. */
  #trying: Promise<void> | undefined;
  /** Ends when the last change of its life does. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(definition: PoolDefinition, pool: OpenPool | RemotePool, host: PoolHost) {
    this.#definition = definition;
    this.#pool = pool;
    this.#host = host;
    const inState = (name: string) => async () => join(await host.stateDirectory(), name);
    this.#overlays = new Overlays(inState('overlays.log'));
    this.#space = new PoolSpace(host.makesVolumes, () => this.log.capacityBytes, inState('usage.log'));
    this.#trash = new Kept(inState('trash.log'), Trash.open);
    pool.on('change', (change) => this.#changed(change));
    pool.on('failed', (error) => this.#lost(error));
  }

  get definition(): PoolDefinition {
    return this.#definition;
  }

  get state(): Pool['state'] {
    return this.#state;
  }

  /** Whether it is known what is in the pool: not before the storage of one that shall run was seen for the first time. */
  get isKnown(): boolean {
    return this.#isKnown;
  }

  get inOwnProcess(): boolean {
    return 'abandon' in this.#pool;
  }

  get reason(): string | undefined {
    return this.#reason;
  }

  describe(): Pool {
    return {
      ...this.definition,
      state: this.#state,
      reason: this.#reason,
      awaitsSecret: this.#awaitsSecret,
      since: this.#since,
      ...this.#space.told,
      storageId: this.#storageId,
      trash: this.#trashSizes.volumeCount > 0 ? this.#trashSizes : undefined,
    };
  }

  /** From now on, and told. The caller has put them on record. */
  setLimits(limits: PoolLimits | undefined): void {
    this.#definition = { ...this.#definition, limits };
    this.#space.weigh(limits);
    this.#tell();
  }

  /** As {@link PoolSpace.reserve}, of a pool that runs. What was begun before is never refused. */
  reserve(capacityBytes: number, isBegun = false): Disposable {
    const limits = this.#state === 'running' && !isBegun ? this.definition.limits : undefined;
    return this.#space.reserve(capacityBytes, limits);
  }

  forecast(): Promise<PoolForecast> {
    return this.#space.forecast();
  }

  /** Runs what changes the trash, or looks into it, and tells of what has become of it. Only while the pool runs. */
  async trash<T>(work: (trash: Trash, pool: PoolOperations) => Promise<T>): Promise<T> {
    const pool = await this.operations();
    const trash = await this.#trash.get();
    try {
      return await work(trash, pool);
    } finally {
      this.#noteTrash(trash);
    }
  }

  /** What is in the trash as far as was last seen, also while the pool does not run. Throws where that cannot be read. */
  async trashed(): Promise<readonly TrashedVolume[]> {
    return (await this.#trash.get()).volumes;
  }

  #noteTrash({ sizes }: Trash): void {
    if (isDeepStrictEqual(sizes, this.#trashSizes)) return;
    this.#trashSizes = sizes;
    this.#tell();
  }

  #tell(): void {
    this.#host.emit({ type: 'pool', pool: this.describe() });
  }

  #become(state: Pool['state'], reason?: string): void {
    if (state !== this.#state) this.#since = clock.now();
    this.#state = state;
    if (state !== 'inaccessible') this.#awaitsSecret = undefined;
    if (state !== 'running') this.#isFollowed = false;
    this.#reason = reason;
    this.#tell();
  }

  #changed(change: PoolChange): void {
    // A start tells everything that is there: what of it differs is known when it is done.
    if (this.#started) {
      for (const { name } of change.gone) this.#started.delete(name);
      for (const volume of change.volumes) this.#started.set(volume.name, volume);
      this.#progress?.();
      return;
    }
    // What comes late, of a start that was given up, is no news of a pool that runs.
    if (this.#isFollowed) this.#apply(change);
  }

  #apply(change: PoolChange): void {
    this.log.apply(change);
    // A full disk here is no reason not to see the volumes.
    void this.#overlays.record(change).catch(() => undefined);
    const { name: pool } = this.definition;
    const now = { generation: this.log.generation, revision: this.log.revision };
    for (const { last, ...page } of pagesOf(change))
      this.#host.emit({ type: 'volumes', pool, ...page, now: last ? now : undefined });
    this.#spaceSoon ??= clock.after(
      SPACE_DELAY_MS,
      () => {
        this.#spaceSoon = undefined;
        if (this.#state === 'running') void this.#look();
      },
      false,
    );
  }

  overlays(): Promise<RecordLog<Overlay>> {
    return this.#overlays.get();
  }

  #forgetVolumes(): void {
    this.#isKnown = true;
    this.log.clear();
    const { generation, revision } = this.log;
    this.#host.emit({ type: 'volumes-begin', pool: this.definition.name });
    this.#host.emit({ type: 'volumes-end', pool: this.definition.name, now: { generation, revision } });
  }

  /** One change of the pool's life after the other: what one has looked at must be so when it is done. */
  alone<T>(work: () => Promise<T>): Promise<T> {
    const change = this.#last.then(work, work);
    this.#last = change.catch(() => undefined);
    return change;
  }

  /** The pool's operations, once it runs: who comes while it is being started waits. Throws `pool-inactive`, `pool-inaccessible`. */
  async operations(): Promise<PoolOperations> {
    if (this.#state === 'building') await this.#last;
    if (this.#state === 'running') return this.#pool;
    const { name } = this.definition;
    if (this.#state === 'inaccessible')
      throw new StowageError('pool-inaccessible', `pool '${name}' is inaccessible: ${this.#reason}`);
    throw new StowageError('pool-inactive', `pool '${name}' is not started`);
  }

  /** Throws `pool-active`. */
  requireInactive(): void {
    if (this.#state === 'inactive') return;
    throw new StowageError('pool-active', `pool '${this.definition.name}' is ${this.#state}; stop it first`);
  }

  /** As its definition says. Only while it is inactive. */
  build(overwrite?: boolean): Promise<void> {
    return this.#pool.build(overwrite);
  }

  delete(): Promise<void> {
    return this.#pool.delete();
  }

  /** Throws as its storage does; the pool is as before then. */
  async start(): Promise<void> {
    const wasAway = this.#state === 'inaccessible';
    this.#become('building');
    try {
      await this.#start();
    } catch (error) {
      // One that shall run goes on being tried.
      if (wasAway) this.#lost(error);
      else this.#become('inactive');
      throw error;
    }
  }

  /** As a pool that shall run whatever happens: while its storage is away it is inaccessible, and tried again. */
  async keepRunning(): Promise<void> {
    this.#isKnown = false;
    this.#become('building');
    await this.#start().catch((error) => this.#lost(error));
  }

  async #start(): Promise<void> {
    // A stop that comes before the storage is asked for anything ends the start as well.
    const { promise: givenUp, reject } = Promise.withResolvers<never>();
    this.#giveUp = reject;
    const preparing = this.#prepare();
    try {
      await Promise.race([preparing, givenUp]);
    } catch (error) {
      // The next start, or whoever closes the pool, waits for its end, and for what it waited for itself.
      this.#ending = Promise.allSettled([this.#ending, preparing]);
      throw error;
    } finally {
      this.#giveUp = undefined;
    }
    this.#started = new Map();
    try {
      await this.#unlessGivenUp(this.#pool.start());
      this.#told(this.#differences(this.#started));
      this.#isFollowed = true;
    } finally {
      this.#started = undefined;
    }
    const space = await within(SILENCE_MS, this.#pool.space(), `pool '${this.definition.name}'`);
    this.#see(space);
    this.#become('running');
    if (this.#trashSizes.volumeCount > 0)
      void this.trash((trash, pool) => trash.list(pool)).catch(() => undefined);
    this.#keepLooking();
    if (this.log.volumes.size > MANY_VOLUMES) void releaseMemory().catch(() => undefined);
  }

  /** What must be known before the storage is asked for anything. */
  async #prepare(): Promise<void> {
    await this.#ended();
    // Before anything may be deleted by what is on record there.
    await this.overlays();
    // A record of the trash that cannot be read keeps no volume from being used: who asks for the trash is told.
    const trash = await this.#trash.get().catch(() => undefined);
    this.#trashSizes = trash?.sizes ?? NO_TRASH;
  }

  /** Tells what a start has found: all of it, when nothing could be told before. */
  #told(change: PoolChange): void {
    if (this.#isKnown) {
      this.#apply(change);
      return;
    }
    this.#isKnown = true;
    const pool = this.definition.name;
    this.#host.emit({ type: 'volumes-begin', pool });
    this.#apply(change);
    const { generation, revision } = this.log;
    this.#host.emit({ type: 'volumes-end', pool, now: { generation, revision } });
  }

  /** Settles as a start does; throws when that is given up, or when it does not get on. */
  async #unlessGivenUp(start: Promise<void>): Promise<void> {
    const { promise, reject } = Promise.withResolvers<never>();
    let timer: Timer | undefined;
    const name = `pool '${this.definition.name}'`;
    this.#giveUp = (error) => {
      if ('abandon' in this.#pool) this.#pool.abandon(error);
      // What it has brought, or brings after all, is let go of before the next start.
      const over = 'abandon' in this.#pool ? Promise.resolve() : start;
      this.#ending = over
        .catch(() => undefined)
        .then(() => this.#letGo())
        .catch(() => undefined);
      reject(error);
    };
    this.#progress = () => {
      timer?.stop();
      timer = clock.after(
        START_SILENCE_MS,
        () =>
          this.#giveUp?.(
            new StowageError(
              'pool-inaccessible',
              `${name}: its storage has not answered for ${START_SILENCE_MS / 1000} s`,
            ),
          ),
        false,
      );
    };
    this.#progress();
    try {
      await Promise.race([start, promise]);
    } finally {
      timer?.stop();
      this.#giveUp = undefined;
      this.#progress = undefined;
    }
  }

  /** Lets go of what a start that was given up may have brought. */
  async #letGo(): Promise<void> {
    const deadline = clock.monotonicMs() + SILENCE_MS;
    for (;;) {
      try {
        return await within(SILENCE_MS, this.#pool.stop(), `pool '${this.definition.name}'`);
      } catch (error) {
        // Its killed process may take a moment to end.
        if (clock.monotonicMs() < deadline && isStowageError(error, 'pool-inaccessible'))
          await sleep(LOOK_MS);
        else return await this.#host.release?.();
      }
    }
  }

  /** Settles when nothing of an earlier start or stop is at work any more. Throws `pool-inaccessible` when that does not end. */
  async #ended(): Promise<void> {
    await within(
      SILENCE_MS,
      this.#ending.catch(() => undefined),
      `pool '${this.definition.name}' is still busy with its last start or stop`,
    );
  }

  /** Ends a start, or a retry, that waits for its storage: it throws, and what waits for its turn gets it. Whether the pool was being started. */
  cancelStart(): boolean {
    this.#giveUp?.(new StowageError('pool-inactive', `pool '${this.definition.name}' is being stopped`));
    return this.#state === 'building';
  }

  /** What differs between the volumes that are known and those that are there. */
  #differences(there: ReadonlyMap<string, Volume>): PoolChange {
    const { volumes } = this.log;
    const gone = [...volumes.values()].filter(({ name }) => !there.has(name));
    return {
      volumes: [...there.values()].filter((volume) => !isDeepStrictEqual(volumes.get(volume.name), volume)),
      gone: gone.map(({ name, id }) => ({ name, id })),
    };
  }

  /** Gives whether it is news. Which storage it is stays known while it is away. */
  #see(space: Space): boolean {
    this.#storageId = space.storageId && hashOf(space.storageId);
    return this.#space.see(space, this.definition.limits);
  }

  #keepLooking(): void {
    this.#poll ??= clock.every(
      POLL_MS,
      () => {
        if (this.#state === 'running') void this.#look();
        // Storage that went away is tried again: a mount comes back without anybody telling us.
        else this.#tryOrAsk();
      },
      false,
    );
  }

  /** What its process was given at its start has changed: another one is made. Settles when the old one has ended. */
  async renewProcess(): Promise<void> {
    if ('renew' in this.#pool) await within(SILENCE_MS, this.#pool.renew(), `pool '${this.definition.name}'`);
  }

  /** A pool without its secret asks for it again: a login that was refused is not tried a second time. */
  #tryOrAsk(): void {
    if (this.#state !== 'inaccessible') return;
    if (this.#awaitsSecret) this.#tell();
    else this.#trying ??= this.alone(() => this.retry());
  }

  /** Tries to get at storage that is away. Only for {@link alone}. */
  async retry(): Promise<void> {
    try {
      if (this.#state === 'inaccessible') await this.#start();
    } catch (error) {
      this.#lost(error);
    } finally {
      this.#trying = undefined;
    }
  }

  /** Looks at the space: whether the storage is there, and how much of it is left. */
  async #look(): Promise<void> {
    try {
      const space = await within(SILENCE_MS, this.#pool.space(), `pool '${this.definition.name}'`);
      if (this.#state !== 'running') return;
      if (this.#see(space)) this.#tell();
    } catch (error) {
      if (this.#state === 'running') this.#lost(error);
    }
  }

  /** The storage is away. What was known of its volumes stays known. */
  #lost(error: unknown): void {
    if (this.#state === 'inactive') return;
    if (isStowageError(error, 'pool-inaccessible') && 'abandon' in this.#pool) this.#pool.abandon(error);
    if (isStowageError(error, 'secret-missing')) this.#awaitsSecret = 'missing';
    else if (isStowageError(error, 'secret-refused')) this.#awaitsSecret = 'refused';
    else this.#awaitsSecret = undefined;
    this.#become('inaccessible', toStowageError(error).message);
    this.#keepLooking();
  }

  /** Ends in bounded time, whatever the storage does. */
  async stop(): Promise<void> {
    if (this.#state === 'inactive')
      throw new StowageError('pool-inactive', `pool '${this.definition.name}' is not started`);
    const inaccessible = this.#state === 'inaccessible';
    let letGo = true;
    this.#poll?.stop();
    this.#poll = undefined;
    try {
      await this.#ended();
      const stopping = this.#pool.stop();
      this.#ending = stopping;
      stopping.catch(() => undefined);
      await within(SILENCE_MS, stopping, `pool '${this.definition.name}'`);
    } catch (error) {
      if (!inaccessible && !isStowageError(error, 'pool-inaccessible')) {
        this.#keepLooking();
        throw error;
      }
      // It lets nobody go; what would have been waited for is left behind.
      letGo = false;
      if ('abandon' in this.#pool) this.#pool.abandon(toStowageError(error));
    }
    if (!letGo) await this.#host.release?.();
    this.#space.forget();
    this.#forgetVolumes();
    this.#become('inactive');
  }

  /** Looks at everything again. */
  async refresh(): Promise<void> {
    const pool = await this.operations();
    try {
      await pool.refresh();
    } catch (error) {
      this.#lost(error);
      throw error;
    }
    await this.#look();
  }

  /** What is on the storage stays as it is. Once this settles, nothing of it writes to the pool's state on the host any more. */
  async close(): Promise<void> {
    this.#poll?.stop();
    this.#spaceSoon?.stop();
    this.#pool.close();
    for (const kept of [this.#overlays, this.#space, this.#trash]) await kept.close();
  }
}
