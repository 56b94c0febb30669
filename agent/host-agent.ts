import type { Duplex } from 'node:stream';
import type { Orphan } from '../shared/conf/orphan.ts';
import { StowageError } from '../shared/util/errors.ts';
import { type BackendRegistry, loadBackends } from './backends/registry.ts';
import { DiskNumbers } from './domains/disk-numbers.ts';
import { HostDomains } from './domains/host-domains.ts';
import { DomainWatch } from './domains/watch.ts';
import { configurationRoot } from './host/configurations.ts';
import { Pools } from './pools/pools.ts';
import { within } from './pools/within.ts';
import { ProxmoxStorages } from './proxmox/storages.ts';
import { AgentState } from './state.ts';
import type { SourceDoor } from './transfer/door.ts';
import { Sinks } from './transfer/sinks.ts';
import { VolumeUse } from './volume-use.ts';

/** Streams that the controller brought for a relayed pull, and connections that wait for one. */
export class RelayedStreams implements Disposable {
  readonly #idle: Duplex[] = [];
  readonly #waiting = new Set<(stream: Duplex) => void>();
  #ended = false;

  bring(stream: Duplex): void {
    const [waiter] = this.#waiting;
    if (this.#ended) stream.destroy();
    else if (waiter) waiter(stream);
    else this.#idle.push(stream);
  }

  /** The next stream; rejects with the reason of the signal. */
  take(signal: AbortSignal): Promise<Duplex> {
    for (;;) {
      const stream = this.#idle.shift();
      if (!stream) break;
      if (!stream.destroyed) return Promise.resolve(stream);
    }
    return new Promise((resolve, reject) => {
      const abort = (): void => {
        this.#waiting.delete(take);
        reject(signal.reason);
      };
      const take = (stream: Duplex): void => {
        this.#waiting.delete(take);
        signal.removeEventListener('abort', abort);
        resolve(stream);
      };
      if (signal.aborted) return abort();
      signal.addEventListener('abort', abort, { once: true });
      this.#waiting.add(take);
    });
  }

  /** Ends what nobody took, and what comes too late. */
  [Symbol.dispose](): void {
    this.#ended = true;
    for (const stream of this.#idle.splice(0)) stream.destroy();
  }
}

/** A sink that fetches its volume. */
export interface Pull {
  stop: AbortController;
  /** Settles when nothing of it is left. */
  ended: Promise<unknown>;
  relayed: RelayedStreams;
}

/** A source that sends its volume. */
export interface Send {
  door: SourceDoor;
  /** Settles when nothing of it is left, and the volume is free. */
  end(): Promise<void>;
}

/** Longest that the first look at the storages of Proxmox VE keeps the agent from answering. */
const FIRST_LOOK_MS = 2_000;

/** Everything one agent has: what the routes work on. */
export class HostAgent {
  readonly state: AgentState;
  readonly backends: BackendRegistry;
  readonly pools: Pools;
  readonly domains: HostDomains;
  readonly domainWatch: DomainWatch;
  readonly use: VolumeUse;
  /** Sources that are sending, by transfer. */
  readonly sends = new Map<string, Send>();
  readonly sinks: Sinks;
  /** Pulls under way, by transfer. */
  readonly pulls = new Map<string, Pull>();
  readonly proxmox: ProxmoxStorages;
  readonly diskNumbers: DiskNumbers;
  readonly version: string;
  readonly bundle: string;

  private constructor(
    state: AgentState,
    backends: BackendRegistry,
    pools: Pools,
    use: VolumeUse,
    domains: HostDomains,
    root: string,
    identity: { version: string; bundle: string },
  ) {
    this.state = state;
    this.backends = backends;
    this.pools = pools;
    this.sinks = new Sinks(pools);
    this.use = use;
    this.domains = domains;
    this.domainWatch = new DomainWatch(domains);
    // Which volumes a domain uses depends on the pools, too.
    pools.on('event', () => this.domainWatch.lookSoon());
    this.diskNumbers = new DiskNumbers(state.directory, pools, domains);
    this.proxmox = new ProxmoxStorages(pools, root);
    this.version = identity.version;
    this.bundle = identity.bundle;
  }

  static async open(directory: string, identity: { version: string; bundle: string }): Promise<HostAgent> {
    const state = await AgentState.open(directory);
    const backends = await loadBackends(process.env.STOWAGE_BACKEND_DIR);
    const pools = await Pools.open(state, backends);
    const use = new VolumeUse();
    const root = configurationRoot();
    const domains = await HostDomains.open(directory, pools, use, root);
    const agent = new HostAgent(state, backends, pools, use, domains, root, identity);
    // Whoever asks for the pools first sees these among them, unless the cluster's file system does not answer.
    await within(FIRST_LOOK_MS, agent.proxmox.look(), 'the configuration of Proxmox VE').catch(
      () => undefined,
    );
    return agent;
  }

  /** What lies in a running pool and is no volume, with the volumes and domains that refer to it. */
  async orphans(pool: string): Promise<Orphan[]> {
    const orphans = await this.pools.orphans(pool);
    if (orphans.length === 0) return orphans;
    const users = new Map<string, Set<string>>();
    for (const { name, images } of await this.domains.list())
      for (const { path } of images)
        if (path !== undefined) users.set(path, (users.get(path) ?? new Set()).add(`domain ${name}`));
    return orphans.map((orphan) => ({
      ...orphan,
      users: [...orphan.users, ...(users.get(orphan.path) ?? [])],
    }));
  }

  /** Ends the pull of a transfer, if one is under way, and settles when it writes no more. */
  async endPull(transferId: string): Promise<void> {
    const pull = this.pulls.get(transferId);
    pull?.stop.abort(new StowageError('cancelled', 'the transfer is ended here'));
    await pull?.ended.catch(() => undefined);
  }

  close(): void {
    this.domainWatch.close();
    this.proxmox.close();
    void this.diskNumbers.close();
    this.pools.close();
    for (const send of this.sends.values()) void send.end();
    for (const pull of this.pulls.values()) pull.stop.abort();
  }
}
