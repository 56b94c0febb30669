import { createHash } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import { networkInterfaces } from 'node:os';
import pLimit from 'p-limit';
import type { Pool } from '../../shared/conf/pool.ts';
import type { AgentInfo } from '../../shared/protocol/agent.ts';
import type { FleetTotals, Host } from '../../shared/protocol/api.ts';
import { formatToken } from '../../shared/protocol/link.ts';
import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { HostLabels } from '../auth/host-labels.ts';
import type { EventLog } from '../events/event-log.ts';
import type { InventoryWriter } from '../inventory/inventory-writer.ts';
import type { HostAddress, SshAddress } from '../store/host-address.ts';
import type { Change } from '../store/repositories/events.ts';
import type { HostFilter, HostRecord } from '../store/repositories/hosts.ts';
import type { Store, Transaction } from '../store/store.ts';
import type { AgentClient } from './agent-client.ts';
import { HostConnection, TellingTurns } from './connection.ts';
import type { AgentPayload } from './install-agent.ts';
import type { Link } from './link.ts';
import { LocalLink } from './local-link.ts';
import { SshLink, scanHostKey } from './ssh-link.ts';
import type { WebSocketLinks } from './websocket-links.ts';

const ENROLMENT_MS = 24 * 3600_000;
/** SSH connections that are being made at the same time: each costs CPU at both ends. */
const DIALLED_AT_ONCE = 32;
const MOST_LABELS = 64;
const HOSTS_A_PAGE = 100;
const AGENTS_A_QUERY = 500;

/** What people may see of a host: the keys of agents are public, but nobody needs them in a list. */
function publicHost({ address, ...host }: HostRecord): Host {
  if (address.kind === 'local') return { ...host, link: address };
  if (address.kind === 'websocket')
    return { ...host, link: { kind: 'websocket', enrolled: address.publicKey !== undefined } };
  const { identity, identities, ...link } = address;
  return {
    ...host,
    link: { ...link, identities: identity === undefined ? identities : [identity, ...identities] },
  };
}

/** Of this machine; loopback last, for agents that are on it too. */
function ownAddresses(): string[] {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  const outer = all.filter(({ internal, address }) => !internal && !address.startsWith('fe80'));
  return [...outer.map(({ address }) => address), '127.0.0.1'];
}

/** The hosts and their connections. */
export class Fleet {
  readonly #store: Store;
  readonly #events: EventLog;
  readonly #inventory: InventoryWriter;
  readonly #webSockets: WebSocketLinks;
  readonly #payload: () => Promise<AgentPayload>;
  readonly #labels: HostLabels;
  readonly #dialling = pLimit(DIALLED_AT_ONCE);
  readonly #turns = new TellingTurns();
  readonly #connections = new Map<string, HostConnection>();
  /** Called with its name when a host becomes reachable. */
  onReachable: (host: string) => void = () => undefined;
  /** Called when a host that has come back holds transfers. */
  onTransfers: (host: string) => void = () => undefined;
  /** Called, once that is known, when a pool of a host waits for its secret. */
  onAwaitsSecret: (host: string, pool: Pool) => void = () => undefined;

  constructor(parts: {
    store: Store;
    events: EventLog;
    inventory: InventoryWriter;
    webSockets: WebSocketLinks;
    labels: HostLabels;
    payload: () => Promise<AgentPayload>;
  }) {
    this.#store = parts.store;
    this.#events = parts.events;
    this.#inventory = parts.inventory;
    this.#webSockets = parts.webSockets;
    this.#labels = parts.labels;
    this.#payload = parts.payload;
  }

  /** Connects to every host; so many links at a time are being made. */
  async start(): Promise<void> {
    await this.#store.transaction(({ hosts }) => hosts.setAllConnecting(clock.now()));
    for (let after: string | undefined; ; ) {
      const hosts = await this.#store.hosts.list({ after, limit: HOSTS_A_PAGE });
      for (const host of hosts) this.#connect(host);
      if (hosts.length < HOSTS_A_PAGE) return;
      after = hosts.at(-1)!.name;
      // With very many others get a turn in between.
      await new Promise(setImmediate);
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#connections.values()].map((connection) => connection.close()));
  }

  #connect(host: HostRecord): void {
    const makeLink = (signal: AbortSignal): Promise<Link> => this.#makeLink(host, signal);
    const connection = new HostConnection(
      host.name,
      makeLink,
      {
        onReachable: (info) => this.#reachable(host.id, info),
        onUnreachable: (reason) => this.#setState(host.id, 'unreachable', reason),
        onEvent: async (event) => {
          if (event.type === 'holds-transfers') this.onTransfers(host.name);
          else await this.#inventory.apply(host, event);
          if (event.type === 'pool' && event.pool.awaitsSecret) this.onAwaitsSecret(host.name, event.pool);
        },
        known: () => this.#inventory.stateKnownOf(host.id),
      },
      this.#turns,
    );
    this.#connections.set(host.id, connection);
  }

  /** How a host is reached never changes; only an agent that dials in may be enrolled anew. */
  async #makeLink({ id, address }: HostRecord, signal: AbortSignal): Promise<Link> {
    switch (address.kind) {
      case 'local':
        return new LocalLink(address.socket);
      case 'ssh':
        return this.#dialling(async () => {
          signal.throwIfAborted();
          return SshLink.connect(address, await this.#payload(), signal);
        });
      case 'websocket':
        return this.#webSockets.next(id, signal);
    }
  }

  /**
   * What an agent says of itself makes it nobody else: one that dialled in is who its key was enrolled as, and gives way to
   * a host that we reach ourselves and that says the same.
   */
  async #reachable(hostId: string, info: AgentInfo): Promise<void> {
    const { agentId } = info;
    let disowned: string | undefined;
    let name = '';
    await this.#events.write(async ({ hosts }) => {
      const self = await hosts.byId(hostId);
      if (!self) throw new StowageError('host-not-found', 'the host was removed');
      name = self.name;
      const dialsIn = self.address.kind === 'websocket';
      if (dialsIn && self.agentId !== agentId)
        throw new StowageError(
          'enrolment-refused',
          `the agent says that it is ${agentId}, and was enrolled as ${self.agentId}`,
        );
      const twin = (await hosts.byAgentId(agentId)).find(({ id }) => id !== hostId);
      if (twin && (twin.address.kind !== 'websocket' || dialsIn))
        throw new StowageError(
          'host-exists',
          `this is the same agent as host '${twin.name}'; a host is added once`,
        );
      const changes: Change[] = [];
      if (twin) {
        // It had enrolled as an agent that is another host: it must enrol anew.
        await hosts.setAgent(twin.id, undefined);
        await hosts.setAddress(twin.id, { kind: 'websocket' });
        changes.push(
          ...(await setState(hosts, twin, 'unreachable', 'its agent is another host; enrol it anew')),
        );
        disowned = twin.id;
      }
      if (self.agentId !== agentId) await hosts.setAgent(hostId, agentId);
      changes.push(...(await setState(hosts, self, 'reachable', undefined)));
      return changes;
    });
    if (disowned !== undefined) this.#webSockets.end(disowned);
    this.onReachable(name);
  }

  async #setState(hostId: string, state: Host['state'], reason: string | undefined): Promise<void> {
    await this.#events.write(async ({ hosts }) => {
      const host = await hosts.byId(hostId);
      return host ? setState(hosts, host, state, reason) : [];
    });
  }

  // ---- what the API and the jobs use ----

  /** The hosts of agents, by the agents' ids; none for those that the fleet does not know. */
  async namesOfAgents(agentIds: Iterable<string>): Promise<Map<string, string>> {
    const names = new Map<string, string>();
    const asked = [...new Set(agentIds)];
    for (let from = 0; from < asked.length; from += AGENTS_A_QUERY) {
      const some = await this.#store.hosts.namesOfAgents(asked.slice(from, from + AGENTS_A_QUERY));
      for (const { agentId, name } of some) names.set(agentId, name);
      // Whoever makes up very many ids keeps nobody from a turn.
      await new Promise(setImmediate);
    }
    return names;
  }

  /** By name. */
  async list(filter: HostFilter): Promise<Host[]> {
    return (await this.#store.hosts.list(filter)).map(publicHost);
  }

  totals(scopes: readonly string[]): Promise<FleetTotals['hosts']> {
    return this.#store.hosts.totals(scopes);
  }

  /** Throws `host-not-found`. */
  async #record(name: string): Promise<HostRecord> {
    const host = await this.#store.hosts.byName(name);
    if (!host) throw new StowageError('host-not-found', `there is no host '${name}'`);
    return host;
  }

  /** Throws `host-not-found`. */
  async get(name: string): Promise<Host> {
    return publicHost(await this.#record(name));
  }

  /** HTTP to a host's agent; requests fail with `host-unreachable` while there is no link. */
  async client(name: string): Promise<AgentClient> {
    const { id } = await this.#record(name);
    const connection = this.#connections.get(id);
    if (!connection) throw new StowageError('host-unreachable', `host '${name}' is being removed`);
    return connection.client;
  }

  /** The files of an agent, for a host that the controller cannot reach: what it runs, and its native helper beside it. */
  async agentFiles(): Promise<Map<string, Buffer>> {
    const { bundle, helper } = await this.#payload();
    const files = new Map([['stowage-agent.mjs', bundle]]);
    if (helper) files.set('koffi.node', helper);
    return files;
  }

  /** Under which addresses this controller itself knows a host; what its agent says of that does not count. */
  async addresses(name: string): Promise<string[]> {
    const { id, address } = await this.#record(name);
    switch (address.kind) {
      case 'local':
        return ownAddresses();
      case 'ssh':
        return (await lookup(address.hostname, { all: true }).catch(() => [])).map((found) => found.address);
      case 'websocket':
        return this.#webSockets.addresses(id);
    }
  }

  /** Throws `host-exists`. */
  async #insert(name: string, address: HostAddress): Promise<HostRecord> {
    const now = clock.now();
    const host: HostRecord = {
      id: clock.uuid(),
      name,
      address,
      state: 'connecting',
      since: now,
      createdAt: now,
      labels: [],
    };
    await this.#events.write(async ({ hosts }) => {
      if (await hosts.byName(name)) throw taken(name);
      await hosts.insert(host);
      return [{ type: 'host', host: name }];
    });
    this.#connect(host);
    return host;
  }

  /**
   * Adds a host under the key that was given, or, with `acceptNew`, the key it shows now. That key is pinned. Takes the place of a host of
   * that name that was never reached. Throws `host-exists`, `host-key-unknown`, `host-key-mismatch`.
   */
  async addSsh(
    name: string,
    address: Omit<SshAddress, 'kind' | 'fingerprint' | 'identity'>,
    trust: { fingerprint?: string; acceptNew: boolean },
  ): Promise<Host> {
    const before = await this.#store.hosts.byName(name);
    // One that was never reached is mended so.
    const isUnused = before?.address.kind === 'ssh' && before.agentId === undefined;
    if (before && !isUnused) throw taken(name);
    const shown = await scanHostKey(address);
    if (!trust.fingerprint && !trust.acceptNew) {
      throw new StowageError(
        'host-key-unknown',
        `the host shows the key ${shown}; compare it, then give it with --fingerprint, or use --accept-new`,
      );
    }
    if (trust.fingerprint && trust.fingerprint !== shown) {
      throw new StowageError(
        'host-key-mismatch',
        `the host shows the key ${shown}, not ${trust.fingerprint}; nothing was sent`,
      );
    }
    if (before) await this.remove(name);
    return publicHost(await this.#insert(name, { kind: 'ssh', ...address, fingerprint: shown }));
  }

  async addLocal(name: string, socket: string): Promise<void> {
    if (!(await this.#store.hosts.byName(name))) await this.#insert(name, { kind: 'local', socket });
  }

  /** A one-time token with which an agent may dial in as `name`; the host is made when it is not there. */
  async enrol(
    name: string,
    { replace }: { replace: boolean },
  ): Promise<{ token: string; expiresAt: number }> {
    const existing = await this.#store.hosts.byName(name);
    if (existing && existing.address.kind !== 'websocket')
      throw new StowageError(
        'host-exists',
        existing.address.kind === 'local'
          ? `host '${name}' is the controller's own machine`
          : `host '${name}' is reached by SSH`,
      );
    if (existing?.address.kind === 'websocket' && existing.address.publicKey !== undefined && !replace)
      throw new StowageError(
        'host-exists',
        `an agent is enrolled as '${name}' already; with --replace whoever uses the token takes its place`,
      );
    const host = existing ?? (await this.#insert(name, { kind: 'websocket' }));
    const secret = `enrol_${clock.randomBytes(32).toString('base64url')}`;
    const expiresAt = clock.now() + ENROLMENT_MS;
    const hash = createHash('sha256').update(secret).digest('hex');
    await this.#store.transaction(({ hosts }) => hosts.addEnrolment(hash, host.id, expiresAt));
    return { token: formatToken({ secret, controller: this.#webSockets.fingerprint }), expiresAt };
  }

  /**
   * Gives a host labels, or takes them away. A host has one label of a name: `rack=4` takes the place of `rack=3`. Throws
   * `host-not-found`, `invalid-argument` for more labels than a host may have.
   */
  async label(
    name: string,
    { add, remove }: { add: readonly string[]; remove: readonly string[] },
  ): Promise<Host> {
    const both = add.find((label) => remove.includes(label));
    if (both !== undefined)
      throw new StowageError('invalid-argument', `'${both}' is to be given and to be taken away`);
    let labels: string[] = [];
    await this.#events.write(async ({ hosts }) => {
      const host = await hosts.byName(name);
      if (!host) throw new StowageError('host-not-found', `there is no host '${name}'`);
      const kept = host.labels.filter((label) => !remove.includes(label));
      labels = [...new Map([...kept, ...add].map((label) => [nameOfLabel(label), label])).values()].sort();
      if (labels.length > MOST_LABELS)
        throw new StowageError('invalid-argument', `a host has at most ${MOST_LABELS} labels`);
      await hosts.setLabels(host, labels);
      return [{ type: 'host', host: name }];
    });
    this.#labels.set(name, labels);
    return this.get(name);
  }

  /** Forgets a host, whose volumes must not be held; its pools and volumes stay as they are, on the host. */
  async remove(name: string): Promise<void> {
    const { id } = await this.#record(name);
    await this.#events.write(async ({ hosts, leases }) => {
      // In the transaction that removes it: nothing is begun there in between.
      const held = await leases.firstBelow(name);
      if (held)
        throw new StowageError(
          'volume-in-use',
          `the host is needed: volume '${held.volume}' is in use by ${held.holder}`,
        );
      await hosts.remove(id);
      return [{ type: 'host', host: name }];
    });
    this.#labels.set(name, []);
    const connection = this.#connections.get(id);
    this.#connections.delete(id);
    await connection?.close();
    this.#inventory.forget(id);
  }
}

const nameOfLabel = (label: string): string => label.split('=')[0]!;

const taken = (name: string): StowageError =>
  new StowageError('host-exists', `there is a host '${name}' already`);

async function setState(
  hosts: Transaction['hosts'],
  before: HostRecord,
  state: Host['state'],
  reason: string | undefined,
): Promise<Change[]> {
  if (before.state === state && before.reason === reason) return [];
  // A new reason for the same state does not begin the state anew.
  await hosts.setState(before.id, state, reason, before.state === state ? before.since : clock.now());
  return [{ type: 'host', host: before.name }];
}
