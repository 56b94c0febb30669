import { randomUUID } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { realpath } from 'node:fs/promises';
import type { Pool, PoolDefinition } from '../shared/conf/pool.ts';
import type { Volume } from '../shared/conf/volume.ts';
import type { AgentEvent } from '../shared/protocol/agent.ts';
import { StowageError, toStowageError } from '../shared/util/errors.ts';
import type { PoolDriver, Space } from './backends/backend.ts';
import type { BackendRegistry } from './backends/registry.ts';
import type { AgentState } from './state.ts';

const WATCH_DELAY_MS = 150;
const POLL_MS = 30_000;
const NO_SPACE: Space = { capacityBytes: 0, allocationBytes: 0, availableBytes: 0 };

/** One defined pool: its driver and what was last seen in it. */
class HostedPool {
  readonly definition: PoolDefinition;
  readonly driver: PoolDriver;
  state: Pool['state'] = 'inactive';
  reason: string | undefined;
  space: Space = NO_SPACE;
  volumes = new Map<string, Volume>();
  stopWatching: (() => void) | undefined;
  refreshing: Promise<void> | undefined;
  again = false;

  constructor(definition: PoolDefinition, driver: PoolDriver) {
    this.definition = definition;
    this.driver = driver;
  }

  describe(): Pool {
    return { ...this.definition, state: this.state, reason: this.reason, ...this.space };
  }
}

/**
 * The pools of this host. Emits `event` with an {@link AgentEvent} for each difference between what was seen before and
 * what is seen now, whoever made it.
 */
export class Pools extends EventEmitter<{ event: [AgentEvent] }> {
  readonly #state: AgentState;
  readonly #backends: BackendRegistry;
  readonly #pools = new Map<string, HostedPool>();
  readonly #changing = new Map<string, Promise<void>>();
  readonly #poll: NodeJS.Timeout;

  private constructor(state: AgentState, backends: BackendRegistry) {
    super();
    this.setMaxListeners(0);
    this.#state = state;
    this.#backends = backends;
    this.#poll = setInterval(() => this.#refreshAll(), POLL_MS).unref();
  }

  /** Loads the definitions and starts the pools that were active, or are marked for it. */
  static async open(state: AgentState, backends: BackendRegistry): Promise<Pools> {
    const pools = new Pools(state, backends);
    for (const { definition, active } of await state.pools()) {
      const pool = new HostedPool(definition, backends.get(definition.type).open(definition));
      pools.#pools.set(definition.name, pool);
      if (active || definition.autostart)
        await pools.#start(pool).catch((error) => pools.#inaccessible(pool, error));
    }
    return pools;
  }

  close(): void {
    clearInterval(this.#poll);
    for (const pool of this.#pools.values()) pool.stopWatching?.();
  }

  #inaccessible(pool: HostedPool, error: unknown): void {
    pool.state = 'inaccessible';
    pool.reason = toStowageError(error).message;
    pool.space = NO_SPACE;
    this.emit('event', { type: 'pool', pool: pool.describe() });
  }

  #refreshAll(): void {
    for (const pool of this.#pools.values()) {
      if (pool.state === 'running') void this.refresh(pool.definition.name).catch(() => undefined);
      // Storage that went away is tried again: a mount comes back without anybody telling us.
      if (pool.state === 'inaccessible') void this.#tryAgain(pool.definition.name);
    }
  }

  #tryAgain(name: string): Promise<void> {
    return this.#alone(name, async () => {
      const pool = this.#pools.get(name);
      if (pool?.state !== 'inaccessible') return;
      await this.#start(pool).catch((error) => this.#inaccessible(pool, error));
    });
  }

  // ---- reading ----

  #get(name: string): HostedPool {
    const pool = this.#pools.get(name);
    if (!pool) throw new StowageError('pool-not-found', `this host has no pool '${name}'`);
    return pool;
  }

  list(): Pool[] {
    return [...this.#pools.values()].map((pool) => pool.describe());
  }

  get(name: string): Pool {
    return this.#get(name).describe();
  }

  volumes(name: string): Volume[] {
    return [...this.#get(name).volumes.values()];
  }

  /** The driver of a running pool. Throws `pool-inactive`. */
  driver(name: string): PoolDriver {
    const pool = this.#get(name);
    if (pool.state !== 'running') {
      throw new StowageError(
        'pool-inactive',
        pool.reason ? `pool '${name}' is inaccessible: ${pool.reason}` : `pool '${name}' is not started`,
      );
    }
    return pool.driver;
  }

  running(): string[] {
    return [...this.#pools.values()]
      .filter((pool) => pool.state === 'running')
      .map((pool) => pool.definition.name);
  }

  snapshot(): AgentEvent {
    const pools = [...this.#pools.values()].map((pool) => ({
      ...pool.describe(),
      volumes: [...pool.volumes.values()],
    }));
    return { type: 'snapshot', pools };
  }

  // ---- life of a pool ----

  /** One change of a pool's life after the other: what one has looked at must be so when it is done. */
  #alone<T>(name: string, work: () => Promise<T>): Promise<T> {
    const before = this.#changing.get(name) ?? Promise.resolve();
    const change = before.then(work, work);
    const settled = change.then(
      () => undefined,
      () => undefined,
    );
    this.#changing.set(name, settled);
    void settled.then(() => {
      if (this.#changing.get(name) === settled) this.#changing.delete(name);
    });
    return change;
  }

  /** Throws `pool-exists` for a name in use and for a directory that another pool has already. */
  define(definition: Omit<PoolDefinition, 'uuid'> & { uuid?: string }): Promise<Pool> {
    return this.#alone(definition.name, async () => {
      const { name } = definition;
      if (this.#pools.has(name))
        throw new StowageError('pool-exists', `this host has a pool '${name}' already`);
      const backend = this.#backends.get(definition.type);
      const reason = await backend.probe();
      if (reason)
        throw new StowageError(
          'not-supported',
          `pools of type '${definition.type}' do not work on this host: ${reason}`,
        );
      await this.#refuseSharedTarget(definition.target.path);
      const complete = { ...definition, uuid: definition.uuid ?? randomUUID() };
      const pool = new HostedPool(complete, backend.open(complete));
      await this.#state.savePool(complete, false);
      this.#pools.set(name, pool);
      this.emit('event', { type: 'pool', pool: pool.describe() });
      return pool.describe();
    });
  }

  /** Replaces the definition of a stopped pool, which keeps its name and its UUID. What it held stays where it is. */
  redefine(definition: PoolDefinition): Promise<Pool> {
    return this.#alone(definition.name, async () => {
      const { name, uuid, type } = definition;
      const before = this.#inactive(name);
      if (before.definition.uuid !== uuid)
        throw new StowageError(
          'pool-exists',
          `operation failed: pool '${name}' already exists with uuid ${before.definition.uuid}`,
        );
      await this.#refuseSharedTarget(definition.target.path, name);
      const pool = new HostedPool(definition, this.#backends.get(type).open(definition));
      await this.#state.savePool(definition, false);
      this.#pools.set(name, pool);
      this.emit('event', { type: 'pool', pool: pool.describe() });
      return pool.describe();
    });
  }

  async #refuseSharedTarget(path: string, own?: string): Promise<void> {
    const real = await realpath(path).catch(() => path);
    for (const other of this.#pools.values()) {
      if (other.definition.name === own) continue;
      const target = other.definition.target.path;
      const otherReal = await realpath(target).catch(() => target);
      const inside = `${real}/`.startsWith(`${otherReal}/`) || `${otherReal}/`.startsWith(`${real}/`);
      if (inside)
        throw new StowageError(
          'pool-exists',
          `the directory overlaps that of pool '${other.definition.name}', ${target}`,
        );
    }
  }

  undefine(name: string): Promise<void> {
    return this.#alone(name, async () => {
      const pool = this.#get(name);
      if (pool.state === 'running')
        throw new StowageError('pool-active', `pool '${name}' is running; stop it first`);
      await this.#state.removePool(name);
      this.#pools.delete(name);
      this.emit('event', { type: 'pool-gone', pool: name });
    });
  }

  build(name: string): Promise<void> {
    return this.#alone(name, async () => {
      const pool = this.#inactive(name);
      if (!pool.driver.build)
        throw new StowageError('not-supported', `pools of type '${pool.definition.type}' are not built`);
      await pool.driver.build();
    });
  }

  #inactive(name: string): HostedPool {
    const pool = this.#get(name);
    if (pool.state === 'running')
      throw new StowageError('pool-active', `pool '${name}' is running; stop it first`);
    return pool;
  }

  start(name: string): Promise<Pool> {
    return this.#alone(name, async () => {
      const pool = this.#inactive(name);
      await this.#start(pool);
      await this.#state.savePool(pool.definition, true);
      return pool.describe();
    });
  }

  async #start(pool: HostedPool): Promise<void> {
    await pool.driver.start?.();
    pool.state = 'running';
    pool.reason = undefined;
    let soon = false;
    pool.stopWatching?.();
    pool.stopWatching = pool.driver.watch?.(() => {
      // Many changes come at once; one look tells of them all.
      if (soon) return;
      soon = true;
      setTimeout(() => {
        soon = false;
        void this.refresh(pool.definition.name).catch(() => undefined);
      }, WATCH_DELAY_MS);
    });
    this.emit('event', { type: 'pool', pool: pool.describe() });
    await this.refresh(pool.definition.name);
  }

  stop(name: string): Promise<Pool> {
    return this.#alone(name, async () => {
      const pool = this.#get(name);
      if (pool.state === 'inactive') throw new StowageError('pool-inactive', `pool '${name}' is not started`);
      pool.stopWatching?.();
      await pool.driver.stop?.();
      pool.state = 'inactive';
      pool.space = NO_SPACE;
      this.#replaceVolumes(pool, []);
      await this.#state.savePool({ ...pool.definition }, false);
      this.emit('event', { type: 'pool', pool: pool.describe() });
      return pool.describe();
    });
  }

  delete(name: string): Promise<void> {
    return this.#alone(name, async () => {
      const pool = this.#inactive(name);
      if (!pool.driver.delete)
        throw new StowageError('not-supported', `pools of type '${pool.definition.type}' are not deleted`);
      await pool.driver.delete();
    });
  }

  /** Looks again, and tells of each difference. Calls that come while one runs share the next one. */
  async refresh(name: string): Promise<void> {
    const pool = this.#get(name);
    this.driver(name);
    if (pool.refreshing) {
      pool.again = true;
      await pool.refreshing;
      return pool.again ? this.refresh(name) : undefined;
    }
    pool.again = false;
    pool.refreshing = this.#refresh(pool).finally(() => {
      pool.refreshing = undefined;
    });
    await pool.refreshing;
  }

  async #refresh(pool: HostedPool): Promise<void> {
    try {
      const [volumes, space] = await Promise.all([pool.driver.refresh(), pool.driver.space?.()]);
      if (pool.state !== 'running') return;
      if (space && JSON.stringify(space) !== JSON.stringify(pool.space)) {
        pool.space = space;
        this.emit('event', { type: 'pool', pool: pool.describe() });
      }
      this.#replaceVolumes(pool, volumes);
    } catch (error) {
      if (pool.state === 'running') this.#inaccessible(pool, error);
      throw error;
    }
  }

  #replaceVolumes(pool: HostedPool, volumes: Volume[]): void {
    const next = new Map(volumes.map((volume) => [volume.name, volume]));
    for (const volume of pool.volumes.values()) if (!next.has(volume.name)) this.#tellGone(pool, volume);
    for (const volume of volumes) {
      const before = pool.volumes.get(volume.name);
      if (JSON.stringify(before) !== JSON.stringify(volume))
        this.emit('event', { type: 'volume', pool: pool.definition.name, volume });
    }
    pool.volumes = next;
  }

  #tellGone(pool: HostedPool, volume: Volume): void {
    this.emit('event', {
      type: 'volume-gone',
      pool: pool.definition.name,
      volume: volume.name,
      id: volume.id,
    });
  }
}
