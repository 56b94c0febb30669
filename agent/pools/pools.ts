import { EventEmitter } from 'node:events';
import { isDeepStrictEqual } from 'node:util';
import { MOST_ORPHANS, type Orphan } from '../../shared/conf/orphan.ts';
import type { Pool, PoolDefinition } from '../../shared/conf/pool.ts';
import type { PoolForecast, PoolLimits } from '../../shared/conf/pool-usage.ts';
import type { TrashedVolume } from '../../shared/conf/trash.ts';
import type { Volume, VolumeFormat } from '../../shared/conf/volume.ts';
import type { AgentEvent, EventsRequest } from '../../shared/protocol/agent.ts';
import { MOST_VOLUMES_A_LINE } from '../../shared/protocol/agent.ts';
import { namingOf, pveVolume } from '../../shared/pve/images.ts';
import { clock } from '../../shared/util/clock.ts';
import { isStowageError, StowageError, toStowageError } from '../../shared/util/errors.ts';
import type { Backend, HostServices, Traits } from '../backends/backend.ts';
import type { BackendRegistry } from '../backends/registry.ts';
import type { PlacedPool, PlacedVolume } from '../domains/references.ts';
import { locate } from '../host/mounts.ts';
import { managersLock } from '../proxmox/storage-lock.ts';
import { AgentState } from '../state.ts';
import { checkDefinition, checkOnHost, NIL } from './definition-checks.ts';
import { givenSecret } from './given-secret.ts';
import { HostedPool } from './hosted-pool.ts';
import { OpenPool } from './open-pool.ts';
import type { PoolOperations } from './operations.ts';
import { isOverlayOn } from './overlays.ts';
import { refuseClones } from './refusals.ts';
import { RemotePool } from './remote-pool.ts';
import type { Trash } from './trash.ts';
import { pagesOf } from './volume-log.ts';
import { within } from './within.ts';

/** Longest that something which concerns all pools waits for one of them. */
const PATIENCE_MS = 3_000;
/** Told at once of what may be deleted. */
const MOST_EXPIRED = 1000;

/** The pools of this host. Emits `event` with an {@link AgentEvent} for each difference, whoever made it. */
export class Pools extends EventEmitter<{ event: [AgentEvent] }> {
  readonly #state: AgentState;
  readonly #backends: BackendRegistry;
  readonly #pools = new Map<string, HostedPool>();
  /** By the UUIDs of pools; in memory only. */
  readonly #secrets = new Map<string, string>();
  /** Pools that are on record and cannot be had: nothing can be done with them but to undefine them. */
  readonly #broken = new Map<string, Pool>();
  /** One definition after the other: two at once could share a directory. */
  #defining: Promise<unknown> = Promise.resolve();

  private constructor(state: AgentState, backends: BackendRegistry) {
    super();
    this.setMaxListeners(0);
    this.#state = state;
    this.#backends = backends;
  }

  /** Loads the definitions and begins to start the pools that were active, or are marked for it, side by side. */
  static async open(state: AgentState, backends: BackendRegistry): Promise<Pools> {
    const pools = new Pools(state, backends);
    for (const stored of await state.pools()) {
      if ('unreadable' in stored) {
        pools.#setAside({ name: stored.name, uuid: NIL, type: 'unknown' }, stored.unreadable);
        continue;
      }
      const { definition, active } = stored;
      try {
        const pool = pools.#host(definition);
        if (active || definition.autostart) void pool.alone(() => pool.keepRunning());
      } catch (error) {
        pools.#setAside(definition, error instanceof Error ? error.message : String(error));
      }
    }
    return pools;
  }

  #setAside(
    definition: Partial<PoolDefinition> & Pick<PoolDefinition, 'name' | 'uuid' | 'type'>,
    reason: string,
  ): void {
    this.#broken.set(definition.name, {
      source: { hosts: [], devices: [] },
      target: {},
      autostart: false,
      ...definition,
      state: 'inaccessible',
      reason,
      since: clock.now(),
      capacityBytes: 0,
      allocationBytes: 0,
      availableBytes: 0,
    });
  }

  #host(definition: PoolDefinition): HostedPool {
    const backend = this.#backends.get(definition.type);
    const work = this.#open(backend, definition);
    const pool = new HostedPool(definition, work, {
      emit: (event) => void this.emit('event', event),
      stateDirectory: () => AgentState.poolDirectory(this.#state.directory, definition.uuid),
      release: async () => backend.release?.(definition),
      makesVolumes: backend.traits.features.create !== undefined,
    });
    this.#pools.set(definition.name, pool);
    return pool;
  }

  /** The pool as its storage needs it now: what is mounted below it may have changed since it was defined. */
  async #fitted(pool: HostedPool): Promise<HostedPool> {
    const { definition, inOwnProcess } = pool;
    if (inOwnProcess === needsProcess(this.#backends.get(definition.type), definition)) return pool;
    await pool.close();
    return this.#host(definition);
  }

  /** Storage that may stop answering is worked on by a process of its own. */
  #open(backend: Backend, definition: PoolDefinition): OpenPool | RemotePool {
    if (needsProcess(backend, definition))
      return new RemotePool(() => ({
        definition,
        agentId: this.#state.agentId,
        stateDirectory: this.#state.directory,
        imageDirectories: this.directories(),
        secret: this.#secrets.get(definition.uuid),
      }));
    return new OpenPool(backend.open(definition, this.#services(definition)));
  }

  #services(definition: PoolDefinition): HostServices {
    const { uuid } = definition;
    return {
      agentId: this.#state.agentId,
      stateDirectory: () => AgentState.poolDirectory(this.#state.directory, uuid),
      imageDirectories: () => this.directories(),
      secret: () => givenSecret(definition, this.#secrets.get(uuid)),
      ownsStorage: definition.managedBy === undefined,
      alone: managersLock(definition),
    };
  }

  /** The target directories of all pools. */
  directories(): string[] {
    return [...this.#pools.values()].flatMap(({ definition: { type, target } }) =>
      target.path !== undefined && this.#backends.get(type).traits.target === 'exclusive'
        ? [target.path]
        : [],
    );
  }

  async close(): Promise<void> {
    await Promise.all([...this.#pools.values()].map((pool) => pool.close()));
  }

  // ---- reading ----

  #get(name: string): HostedPool {
    const pool = this.#pools.get(name);
    if (pool) return pool;
    const broken = this.#broken.get(name);
    if (broken)
      throw new StowageError('pool-inaccessible', `pool '${name}' is inaccessible: ${broken.reason}`);
    throw new StowageError('pool-not-found', `this host has no pool '${name}'`);
  }

  list(): Pool[] {
    return [...this.#pools.values()].map((pool) => pool.describe()).concat([...this.#broken.values()]);
  }

  get(name: string): Pool {
    return this.#broken.get(name) ?? this.#get(name).describe();
  }

  /** What can be done in a pool. */
  traits(name: string): Traits {
    const { definition } = this.#get(name);
    const backend = this.#backends.get(definition.type);
    return backend.traitsOf?.(definition) ?? backend.traits;
  }

  /** As they were last seen. */
  volumes(name: string): ReadonlyMap<string, Volume> {
    return this.#get(name).log.volumes;
  }

  /** As {@link volumes}; none of a pool that cannot be had. */
  volumesOrNone(name: string): ReadonlyMap<string, Volume> {
    return this.#pools.get(name)?.log.volumes ?? new Map();
  }

  /** As they were last seen, in bytewise order of their names. */
  page(name: string, after: string | undefined, limit: number): Volume[] {
    const { volumes } = this.#get(name).log;
    const later = [...volumes.keys()].filter((key) => after === undefined || key > after).sort();
    return later.slice(0, limit).map((key) => volumes.get(key)!);
  }

  /** What can be done in a running pool. Throws `pool-inactive`, `pool-inaccessible`. */
  async operations(name: string): Promise<PoolOperations> {
    return this.#get(name).operations();
  }

  /**
   * Throws `invalid-name` for a name under which whoever manages a pool would not know a new volume, `not-supported` for one that by its name
   * is nothing that is kept there.
   */
  refuseName(pool: string, name: string): void {
    const { definition } = this.#get(pool);
    if (definition.managedBy === undefined) return;
    const volume = pveVolume(namingOf(definition), name);
    if (!volume)
      throw new StowageError(
        'invalid-name',
        `pool '${pool}' is a storage of Proxmox VE, which knows no volume named '${name}': images are called vm-GUEST-disk-NUMBER`,
      );
    const { contents } = definition;
    // The disks of containers are named as images are.
    const isKept = (content: string): boolean =>
      content === volume.content || (content === 'rootdir' && volume.content === 'images');
    if (contents && !contents.some(isKept))
      throw new StowageError(
        'not-supported',
        `the storage '${pool}' of Proxmox VE is not for ${volume.content}: its content is ${contents.join(', ') || 'none'}`,
      );
  }

  /** Throws `not-supported` for a format that the volumes of a pool cannot have. */
  refuseFormat(pool: string, format: VolumeFormat): void {
    const { formats } = this.traits(pool);
    if (!formats.includes(format))
      throw new StowageError(
        'not-supported',
        `pool '${pool}' holds no volumes of format ${format}: it takes ${formats.join(', ') || 'none'}`,
      );
  }

  /** Runs `work` on all pools that run, side by side. One whose storage does not answer is left out after some seconds. */
  async each(work: (pool: PoolOperations) => Promise<void>): Promise<void> {
    const running = [...this.#pools.values()].filter(({ state }) => state === 'running');
    await Promise.all(
      running.map((pool) =>
        within(PATIENCE_MS, pool.operations().then(work), `pool '${pool.definition.name}'`).catch((error) => {
          if (!isStowageError(error, 'pool-inaccessible')) throw error;
        }),
      ),
    );
  }

  /**
   * What the first of the pools that run has to give, asked side by side; undefined when none has any. Throws
   * `pool-inaccessible` when none has, and one could not be asked.
   */
  async first<T>(work: (pool: PoolOperations) => Promise<T | undefined>): Promise<T | undefined> {
    const running = [...this.#pools.values()].filter(({ state }) => state !== 'inactive');
    const { promise: found, resolve } = Promise.withResolvers<T>();
    const all = Promise.allSettled(
      running.map(async (pool) => {
        const result = await work(await pool.operations());
        if (result !== undefined) resolve(result);
      }),
    );
    const none = all.then((results) => {
      for (const result of results) if (result.status === 'rejected') throw result.reason;
      return undefined;
    });
    none.catch(() => undefined);
    return await Promise.race([found, none]);
  }

  /** Throws `volume-has-clones` for a base that volumes in the trash of its pool stand on. */
  async refuseTrashedClones(pool: string, name: string): Promise<void> {
    const volume = this.volumes(pool).get(name);
    if (!volume?.isBase) return;
    const trashed = await this.#get(pool).trashed();
    const clones = trashed.filter(
      (each) => each.volume.parentId === volume.id || isOverlayOn(each.volume, volume),
    );
    refuseClones(
      volume,
      clones.map((each) => `${each.volume.name} (${each.id} in the trash)`),
    );
  }

  /** All pools as places of volumes; of those that do not run, what is on record of volumes that stand on others. */
  async places(): Promise<PlacedPool[]> {
    const places: PlacedPool[] = [];
    for (const [name, pool] of this.#pools) {
      const { log, definition } = pool;
      const backend = this.#backends.get(definition.type);
      const { traits } = backend;
      const placed = (volume: Volume): PlacedVolume => ({
        path: volume.path,
        backingStore: volume.backingStore?.path,
      });
      const stopped = pool.state === 'running' ? undefined : await pool.overlays();
      const trashed = await pool.trashed();
      places.push({
        name,
        directory: traits.target === 'exclusive' ? definition.target.path : undefined,
        nameAt: backend.layoutOf?.(definition).nameAt,
        get: (volume) => {
          const found = log.volumes.get(volume);
          return found && placed(found);
        },
        names: () => log.volumes.keys(),
        *overlays() {
          if (stopped) yield* stopped.entries();
          else
            for (const volume of log.volumes.values())
              if (volume.backingStore) yield [volume.name, placed(volume)];
          // What is in the trash may come back, and stands on the same then.
          for (const { volume, id } of trashed)
            if (volume.backingStore) yield [`${volume.name} (${id} in the trash)`, placed(volume)];
        },
      });
    }
    return places;
  }

  /**
   * Everything there is, but for what `known` says is known, as lines of bounded length. Each line holds what is so when it is
   * taken: who writes changes as they happen into the same stream has them in the right order.
   */
  *snapshot(known: EventsRequest['known'] = {}): Generator<AgentEvent> {
    const names = this.list().map(({ name }) => name);
    yield { type: 'begin', pools: names };
    for (const name of names) {
      // It may have gone while the lines before were read.
      const pool = this.#broken.get(name) ?? this.#pools.get(name)?.describe();
      if (pool) yield { type: 'pool', pool };
      const { log, isKnown } = this.#pools.get(name) ?? {};
      // Storage that was not seen yet is no empty pool: who knows its volumes from before keeps them.
      if (!log || !isKnown) continue;
      const state = () => ({ generation: log.generation, revision: log.revision });
      const change = log.since(known[name]);
      if (change) {
        const now = state();
        for (const { last, ...page } of pagesOf(change, MOST_VOLUMES_A_LINE))
          yield { type: 'volumes', pool: name, ...page, now: last ? now : undefined };
        continue;
      }
      yield { type: 'volumes-begin', pool: name };
      const all = [...log.volumes.keys()];
      for (let start = 0; start < all.length; start += MOST_VOLUMES_A_LINE) {
        const volumes = all
          .slice(start, start + MOST_VOLUMES_A_LINE)
          .flatMap((key) => log.volumes.get(key) ?? []);
        if (volumes.length > 0) yield { type: 'volumes', pool: name, volumes, gone: [] };
      }
      yield { type: 'volumes-end', pool: name, now: state() };
    }
  }

  // ---- life of a pool ----

  #alone<T>(name: string, work: (pool: HostedPool) => Promise<T>): Promise<T> {
    const pool = this.#get(name);
    return pool.alone(() => {
      // What came before may have taken it away or replaced it.
      if (this.#pools.get(name) !== pool) return this.#alone(name, work);
      return work(pool);
    });
  }

  #define<T>(work: () => Promise<T>): Promise<T> {
    const change = this.#defining.then(work, work);
    this.#defining = change.catch(() => undefined);
    return change;
  }

  /** Throws `pool-exists` for a name in use and for a directory that another pool has already. */
  define(
    definition: Omit<PoolDefinition, 'uuid' | 'managedBy' | 'isShared' | 'wipesDeleted' | 'contents'> & {
      uuid?: string;
    },
  ): Promise<Pool> {
    return this.#define(async () => {
      const { name } = definition;
      checkDefinition(this.#backends.get(definition.type), definition);
      if (this.#pools.has(name) || this.#broken.has(name))
        throw new StowageError('pool-exists', `this host has a pool '${name}' already`);
      const complete = { ...definition, uuid: definition.uuid ?? clock.uuid() };
      await checkOnHost(this.#backends, complete, this.list());
      await this.#state.savePool(complete, false);
      const pool = this.#host(complete);
      this.emit('event', { type: 'pool', pool: pool.describe() });
      return pool.describe();
    });
  }

  /** Replaces the definition of a stopped pool, which keeps its name and its UUID. What it held stays where it is. */
  redefine(definition: PoolDefinition): Promise<Pool> {
    this.#refuseManaged(definition.name);
    return this.#define(() =>
      this.#alone(definition.name, async (before) => {
        const { name, uuid } = definition;
        before.requireInactive();
        if (before.definition.uuid !== uuid)
          throw new StowageError(
            'pool-exists',
            `operation failed: pool '${name}' already exists with uuid ${before.definition.uuid}`,
          );
        checkDefinition(this.#backends.get(definition.type), definition);
        await checkOnHost(this.#backends, definition, this.list());
        await this.#state.savePool(definition, false);
        this.#secrets.delete(uuid);
        await before.close();
        const pool = this.#host(definition);
        this.emit('event', { type: 'pool', pool: pool.describe() });
        return pool.describe();
      }),
    );
  }

  /** Throws `pool-managed` for a pool that is defined elsewhere: it is changed there. */
  #refuseManaged(name: string): void {
    const { managedBy } = this.#broken.get(name) ?? this.#get(name).definition;
    if (managedBy !== undefined)
      throw new StowageError(
        'pool-managed',
        `pool '${name}' is a storage of Proxmox VE, and is changed there: pvesm set, pvesm remove`,
      );
  }

  /**
   * Makes the pools that are defined elsewhere those of `wanted`: they are defined and kept running. What is not wanted any more goes,
   * once nothing of it lies in the trash; its storage stays as it is. Gives those that cannot be pools here, and why.
   */
  async manage(
    wanted: readonly Omit<PoolDefinition, 'uuid'>[],
  ): Promise<{ storage: string; reason: string }[]> {
    const refused: { storage: string; reason: string }[] = [];
    const names = new Set(wanted.map(({ name }) => name));
    for (const { name, managedBy } of this.list())
      if (managedBy !== undefined && !names.has(name))
        await this.#forgetManaged(name).catch((error) =>
          refused.push({ storage: name, reason: toStowageError(error).message }),
        );
    for (const definition of wanted)
      await this.#takeManaged(definition).catch((error) =>
        refused.push({ storage: definition.name, reason: toStowageError(error).message }),
      );
    return refused;
  }

  async #takeManaged(wanted: Omit<PoolDefinition, 'uuid'>): Promise<void> {
    const { name } = wanted;
    const before = this.#pools.get(name)?.definition ?? this.#broken.get(name);
    if (before && before.managedBy === undefined)
      throw new StowageError('pool-exists', 'a pool of this name is defined here already');
    const { uuid = clock.uuid(), limits } = before ?? {};
    const definition = { ...wanted, uuid, limits };
    const known = this.#pools.get(name)?.definition;
    if (known && isDeepStrictEqual(asJson(known), asJson(definition))) return;
    await this.#define(async () => {
      checkDefinition(this.#backends.get(definition.type), definition);
      await checkOnHost(this.#backends, definition, this.list());
      if (this.#pools.has(name)) await this.#letGo(name, 'it was changed in Proxmox VE');
      await this.#state.savePool(definition, true);
      this.#broken.delete(name);
      const pool = this.#host(definition);
      this.emit('event', { type: 'pool', pool: pool.describe() });
      void pool.alone(() => pool.keepRunning());
    });
  }

  #forgetManaged(name: string): Promise<void> {
    return this.#define(async () => {
      if (this.#pools.has(name)) await this.#letGo(name, 'it is no storage of Proxmox VE any more');
      await this.#state.removePool(name);
      this.#broken.delete(name);
      this.emit('event', { type: 'pool-gone', pool: name });
    });
  }

  /** Its storage is let be: whoever defined the pool goes on with it. Throws `pool-not-empty`, saying `why`, while volumes are in its trash. */
  async #letGo(name: string, why: string): Promise<void> {
    this.#get(name).cancelStart();
    await this.#alone(name, async (pool) => {
      const [kept] = await pool.trashed();
      if (kept)
        throw new StowageError(
          'pool-not-empty',
          `${why}, and volumes are in its trash, such as ${kept.volume.name}: restore or delete them`,
        );
      // Of storage that is not ours nothing is let go of but what the agent itself holds.
      if (pool.state !== 'inactive') await pool.stop();
      this.#pools.delete(name);
      await pool.close();
    });
  }

  undefine(name: string): Promise<void> {
    this.#refuseManaged(name);
    const gone = async (): Promise<void> => {
      await this.#state.removePool(name);
      this.#pools.delete(name);
      this.#broken.delete(name);
      this.emit('event', { type: 'pool-gone', pool: name });
    };
    if (this.#broken.has(name)) return this.#define(gone);
    this.#get(name).cancelStart();
    return this.#alone(name, async (pool) => {
      // Storage that is away lets a pool go: what is on it stays.
      const wasAway = pool.state === 'inaccessible';
      if (wasAway) await pool.stop();
      const [kept] = wasAway ? [] : await pool.trashed();
      if (kept)
        throw new StowageError(
          'pool-not-empty',
          `volumes are in the trash of pool '${name}', such as ${kept.volume.name}: restore or delete them first`,
        );
      pool.requireInactive();
      await gone();
      this.#secrets.delete(pool.definition.uuid);
      await pool.close();
    });
  }

  /** With `ifAny` it is no error where pools of this type have nothing to build, as in libvirt's pool-create --build. */
  build(name: string, overwrite?: boolean, ifAny = false): Promise<void> {
    this.#refuseManaged(name);
    return this.#alone(name, async (pool) => {
      if (ifAny && !this.#backends.get(pool.definition.type).traits.features.build) return;
      pool.requireInactive();
      await pool.build(overwrite);
    });
  }

  /** With the secret that its source names, which is kept while it runs, or shall run. */
  start(name: string, secret?: string): Promise<Pool> {
    return this.#alone(name, async (pool) => {
      if (pool.state !== 'inaccessible') pool.requireInactive();
      const { uuid } = pool.definition;
      if (secret !== undefined) {
        this.#secrets.set(uuid, secret);
        await pool.renewProcess();
      }
      const fitted = pool.state === 'inactive' ? await this.#fitted(pool) : pool;
      await fitted.start().catch((error) => {
        if (fitted.state === 'inactive') this.#secrets.delete(uuid);
        throw error;
      });
      await this.#state.savePool(fitted.definition, true);
      return fitted.describe();
    });
  }

  stop(name: string): Promise<Pool> {
    this.#refuseManaged(name);
    const cancelled = this.#get(name).cancelStart();
    return this.#alone(name, async (pool) => {
      // What was being started is stopped when that start has ended without it.
      if (!cancelled || pool.state !== 'inactive') await pool.stop();
      this.#secrets.delete(pool.definition.uuid);
      await this.#state.savePool(pool.definition, false);
      return pool.describe();
    });
  }

  /** Gives a pool the secret that it waits for; it is tried again at once, but not with what was refused. */
  giveSecret(name: string, secret: string): Promise<void> {
    return this.#alone(name, async (pool) => {
      const { awaitsSecret, uuid } = pool.describe();
      if (!awaitsSecret || (awaitsSecret === 'refused' && this.#secrets.get(uuid) === secret)) return;
      this.#secrets.set(uuid, secret);
      await pool.renewProcess();
      await pool.retry();
    });
  }

  delete(name: string): Promise<void> {
    this.#refuseManaged(name);
    return this.#alone(name, async (pool) => {
      pool.requireInactive();
      await pool.delete();
    });
  }

  /** Of a pool in any state; durable when it settles. */
  setLimits(name: string, limits: PoolLimits | undefined): Promise<Pool> {
    return this.#alone(name, async (pool) => {
      await this.#state.savePool({ ...pool.definition, limits }, pool.state !== 'inactive');
      pool.setLimits(limits);
      return pool.describe();
    });
  }

  /** Runs `work` on the trash of a running pool. */
  trash<T>(name: string, work: (trash: Trash, pool: PoolOperations) => Promise<T>): Promise<T> {
    return this.#get(name).trash(work);
  }

  /** What lies in the trash of a pool that runs longer than it was to be kept, the first of it. */
  async expired(): Promise<{ pool: string; trashed: TrashedVolume }[]> {
    const all: { pool: string; trashed: TrashedVolume }[] = [];
    const running = [...this.#pools].filter(
      ([, pool]) => pool.state === 'running' && pool.describe().trash !== undefined,
    );
    await Promise.all(
      running.map(async ([name, pool]) => {
        const listed = pool.trash((trash, operations) => trash.list(operations));
        // Storage that is away keeps what it has.
        const there = await within(PATIENCE_MS, listed, `pool '${name}'`).catch(() => []);
        for (const trashed of there) if (trashed.keepUntil <= clock.now()) all.push({ pool: name, trashed });
      }),
    );
    return all.sort((one, other) => one.trashed.keepUntil - other.trashed.keepUntil).slice(0, MOST_EXPIRED);
  }

  /** What lies in a running pool and is no volume, with the volumes that stand on it: the first {@link MOST_ORPHANS}. */
  async orphans(name: string): Promise<Orphan[]> {
    const found = await this.trash(name, async (trash, pool) =>
      (await pool.orphans()).filter(({ trashId }) => trashId === undefined || !trash.has(trashId)),
    );
    if (found.length === 0) return [];
    const standing = new Map<string, string[]>();
    for (const { name: pool, overlays } of await this.places())
      for (const [volume, { backingStore }] of overlays()) {
        if (backingStore === undefined) continue;
        const users = standing.get(backingStore) ?? [];
        users.push(`volume ${pool}/${volume}`);
        standing.set(backingStore, users);
      }
    return found
      .slice(0, MOST_ORPHANS)
      .map(({ trashId: _, ...orphan }) => ({ ...orphan, users: standing.get(orphan.path) ?? [] }));
  }

  forecast(name: string): Promise<PoolForecast> {
    return this.#get(name).forecast();
  }

  /** As {@link HostedPool.reserve}: of a volume that a pool gets, or of what one grows by. */
  reserve(name: string, capacityBytes: number, isBegun = false): Disposable {
    return this.#get(name).reserve(capacityBytes, isBegun);
  }

  async refresh(name: string): Promise<Pool> {
    const pool = this.#get(name);
    await pool.refresh();
    return pool.describe();
  }
}

/** Without the parts that are absent, as it is on record. */
const asJson = (definition: object): unknown => JSON.parse(JSON.stringify(definition));

/** Whether the storage of a pool may stop answering. */
function needsProcess({ traits }: Backend, { target: { path } }: PoolDefinition): boolean {
  return traits.mayHang || (path !== undefined && locate(path).mayHang);
}
