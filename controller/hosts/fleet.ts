import { createHash } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import { networkInterfaces } from 'node:os';
import type { AgentInfo } from '../../shared/protocol/agent.ts';
import { formatToken } from '../../shared/protocol/link.ts';
import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { Inventory } from '../inventory/inventory.ts';
import type { Store } from '../store/open.ts';
import type { HostRow } from '../store/schema.ts';
import type { AgentClient } from './agent-client.ts';
import { HostConnection } from './connection.ts';
import type { AgentPayload } from './install-agent.ts';
import { type HostAddress, hostAddressSchema, type Link, type SshAddress } from './link.ts';
import { LocalLink } from './local-link.ts';
import { SshLink, scanHostKey } from './ssh-link.ts';
import type { WebSocketLinks } from './websocket-links.ts';

const ENROLMENT_MS = 24 * 3600_000;

export type HostInfo = Omit<HostRow, 'address'> & { address: Record<string, unknown> };

/** What people may see of an address: keys are public, but nobody needs them in a list. */
function publicAddress(address: HostAddress): Record<string, unknown> {
  if (address.kind !== 'websocket') return address;
  return { kind: 'websocket', enrolled: address.publicKey !== undefined };
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
  readonly #inventory: Inventory;
  readonly #webSockets: WebSocketLinks;
  readonly #payload: () => Promise<AgentPayload>;
  readonly #connections = new Map<string, HostConnection>();
  /** Called when a host becomes reachable. */
  onReachable: (host: HostRow) => void = () => undefined;

  constructor(
    store: Store,
    inventory: Inventory,
    webSockets: WebSocketLinks,
    payload: () => Promise<AgentPayload>,
  ) {
    this.#store = store;
    this.#inventory = inventory;
    this.#webSockets = webSockets;
    this.#payload = payload;
  }

  async start(): Promise<void> {
    await this.#store
      .updateTable('hosts')
      .set({ state: 'connecting', reason: null, since: clock.now() })
      .execute();
    for (const host of await this.#store.selectFrom('hosts').selectAll().execute()) this.#connect(host);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#connections.values()].map((connection) => connection.close()));
  }

  #connect(host: HostRow): void {
    const makeLink = (signal: AbortSignal): Promise<Link> => this.#makeLink(host.id, signal);
    const connection = new HostConnection(makeLink, {
      onReachable: (info) => this.#reachable(host.id, info),
      onUnreachable: (reason) => this.#setState(host.id, 'unreachable', reason),
      onEvent: (event) => this.#inventory.apply(host, event),
      known: () => this.#inventory.known(host.id),
    });
    this.#connections.set(host.id, connection);
  }

  async #makeLink(hostId: string, signal: AbortSignal): Promise<Link> {
    const host = await this.#store
      .selectFrom('hosts')
      .selectAll()
      .where('id', '=', hostId)
      .executeTakeFirstOrThrow();
    const address = hostAddressSchema.parse(JSON.parse(host.address));
    switch (address.kind) {
      case 'local':
        return new LocalLink(address.socket);
      case 'ssh':
        return SshLink.connect(address, await this.#payload(), signal);
      case 'websocket':
        return this.#webSockets.next(hostId, signal);
    }
  }

  /**
   * What an agent says of itself makes it nobody else: one that dialled in is who its key was enrolled as, and gives way to
   * a host that we reach ourselves and that says the same.
   */
  async #reachable(hostId: string, info: AgentInfo): Promise<void> {
    const self = await this.#store
      .selectFrom('hosts')
      .select(['kind', 'agent_id'])
      .where('id', '=', hostId)
      .executeTakeFirstOrThrow();
    if (self.kind === 'websocket' && self.agent_id !== info.agentId)
      throw new StowageError(
        'enrolment-refused',
        `the agent says that it is ${info.agentId}, and was enrolled as ${self.agent_id}`,
      );
    const twin = await this.#store
      .selectFrom('hosts')
      .select(['id', 'name', 'kind'])
      .where('agent_id', '=', info.agentId)
      .where('id', '!=', hostId)
      .executeTakeFirst();
    if (twin && (twin.kind !== 'websocket' || self.kind === 'websocket'))
      throw new StowageError(
        'host-exists',
        `this is the same agent as host '${twin.name}'; a host is added once`,
      );
    if (twin) await this.#disown(twin.id);
    await this.#store.updateTable('hosts').set({ agent_id: info.agentId }).where('id', '=', hostId).execute();
    await this.#setState(hostId, 'reachable', null);
    const host = await this.#store
      .selectFrom('hosts')
      .selectAll()
      .where('id', '=', hostId)
      .executeTakeFirstOrThrow();
    this.onReachable(host);
  }

  /** Ends the link of a host that had enrolled as an agent that is another host: it must enrol anew. */
  async #disown(hostId: string): Promise<void> {
    await this.#store
      .updateTable('hosts')
      .set({ agent_id: null, address: JSON.stringify({ kind: 'websocket' } satisfies HostAddress) })
      .where('id', '=', hostId)
      .execute();
    this.#webSockets.end(hostId);
    await this.#setState(hostId, 'unreachable', 'its agent is another host; enrol it anew');
  }

  async #setState(hostId: string, state: HostRow['state'], reason: string | null): Promise<void> {
    const before = await this.#store
      .selectFrom('hosts')
      .selectAll()
      .where('id', '=', hostId)
      .executeTakeFirst();
    if (!before || (before.state === state && before.reason === reason)) return;
    // A new reason for the same state does not begin the state anew.
    const since = before.state === state ? before.since : clock.now();
    await this.#store.updateTable('hosts').set({ state, reason, since }).where('id', '=', hostId).execute();
    this.#inventory.tell({ type: 'host', host: before.name, now: { state, reason, since } });
  }

  // ---- what the API and the jobs use ----

  async list(): Promise<HostInfo[]> {
    const rows = await this.#store.selectFrom('hosts').selectAll().orderBy('name').execute();
    return rows.map((row) => ({
      ...row,
      address: publicAddress(hostAddressSchema.parse(JSON.parse(row.address))),
    }));
  }

  async row(name: string): Promise<HostRow> {
    const row = await this.#store.selectFrom('hosts').selectAll().where('name', '=', name).executeTakeFirst();
    if (!row) throw new StowageError('host-not-found', `there is no host '${name}'`);
    return row;
  }

  async get(name: string): Promise<HostInfo> {
    const row = await this.row(name);
    return { ...row, address: publicAddress(hostAddressSchema.parse(JSON.parse(row.address))) };
  }

  /** HTTP to a host's agent; requests fail with `host-unreachable` while there is no link. */
  async client(name: string): Promise<AgentClient> {
    const { id } = await this.row(name);
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
    const { id, address } = await this.row(name);
    const known = hostAddressSchema.parse(JSON.parse(address));
    switch (known.kind) {
      case 'local':
        return ownAddresses();
      case 'ssh':
        return (await lookup(known.hostname, { all: true }).catch(() => [])).map((found) => found.address);
      case 'websocket':
        return this.#webSockets.addresses(id);
    }
  }

  async #insert(name: string, address: HostAddress): Promise<HostRow> {
    const taken = await this.#store
      .selectFrom('hosts')
      .select('id')
      .where('name', '=', name)
      .executeTakeFirst();
    if (taken) throw new StowageError('host-exists', `there is a host '${name}' already`);
    const now = clock.now();
    const row: HostRow = {
      id: clock.uuid(),
      name,
      kind: address.kind,
      address: JSON.stringify(address),
      agent_id: null,
      state: 'connecting',
      reason: null,
      since: now,
      created_at: now,
    };
    await this.#store.insertInto('hosts').values(row).execute();
    this.#connect(row);
    return row;
  }

  /** Adds a host under the key that was given, or, with `acceptNew`, the key it shows now. That key is pinned. */
  async addSsh(
    name: string,
    address: Omit<SshAddress, 'kind' | 'fingerprint' | 'identity'>,
    trust: { fingerprint?: string; acceptNew: boolean },
  ): Promise<HostInfo> {
    const taken = await this.#store
      .selectFrom('hosts')
      .select('id')
      .where('name', '=', name)
      .executeTakeFirst();
    if (taken) throw new StowageError('host-exists', `there is a host '${name}' already`);
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
    await this.#insert(name, { kind: 'ssh', ...address, fingerprint: shown });
    return this.get(name);
  }

  async addLocal(name: string, socket: string): Promise<void> {
    const row = await this.#store.selectFrom('hosts').selectAll().where('name', '=', name).executeTakeFirst();
    if (!row) await this.#insert(name, { kind: 'local', socket });
  }

  /** A one-time token with which an agent may dial in as `name`; the host is made when it is not there. */
  async enrol(name: string): Promise<{ token: string; expiresAt: number }> {
    const existing = await this.#store
      .selectFrom('hosts')
      .selectAll()
      .where('name', '=', name)
      .executeTakeFirst();
    if (existing && existing.kind !== 'websocket')
      throw new StowageError('host-exists', `host '${name}' is reached by ${existing.kind}`);
    const host = existing ?? (await this.#insert(name, { kind: 'websocket' }));
    const secret = `enrol_${clock.randomBytes(32).toString('base64url')}`;
    const expiresAt = clock.now() + ENROLMENT_MS;
    const token_hash = createHash('sha256').update(secret).digest('hex');
    await this.#store
      .insertInto('enrolments')
      .values({ token_hash, host_id: host.id, expires_at: expiresAt, used_at: null })
      .execute();
    return { token: formatToken({ secret, controller: this.#webSockets.fingerprint }), expiresAt };
  }

  /** Forgets a host, whose volumes must not be held; its pools and volumes stay as they are, on the host. */
  async remove(name: string): Promise<void> {
    const { id } = await this.row(name);
    const connection = this.#connections.get(id);
    this.#connections.delete(id);
    await this.#store.deleteFrom('hosts').where('id', '=', id).execute();
    await connection?.close();
    this.#inventory.tell({ type: 'host', host: name });
  }
}
