import type { Kysely } from 'kysely';
import { z } from 'zod';
import { type FleetTotals, type Host, labelSchema } from '../../../shared/protocol/api.ts';
import { type HostAddress, hostAddressSchema } from '../host-address.ts';
import type { Database, HostRow } from '../schema.ts';
import { inScopes } from '../scopes.ts';

/** A host as the controller knows it, with how to reach it. */
export type HostRecord = Omit<Host, 'link'> & { address: HostAddress };

export interface Enrolment {
  hostId: string;
  expiresAt: number;
  usedAt?: number;
}

function recordOf(row: HostRow): HostRecord {
  return {
    id: row.id,
    name: row.name,
    address: hostAddressSchema.parse(JSON.parse(row.address)),
    agentId: row.agent_id ?? undefined,
    state: row.state,
    reason: row.reason ?? undefined,
    since: row.since,
    createdAt: row.created_at,
    labels: z.array(labelSchema).parse(JSON.parse(row.labels)),
  };
}

export interface HostFilter {
  scopes?: readonly string[];
  state?: Host['state'];
  label?: string;
  limit?: number;
  after?: string;
}

export class HostReader {
  protected readonly db: Kysely<Database>;

  constructor(db: Kysely<Database>) {
    this.db = db;
  }

  /** By name; a page of them with `limit`, those after `after`. */
  async list({ scopes = [], state, label, limit, after }: HostFilter = {}): Promise<HostRecord[]> {
    let query = this.db.selectFrom('hosts').selectAll().orderBy('name');
    if (scopes.length > 0) query = query.where((eb) => inScopes(eb, scopes, { host: 'hosts.name' }));
    if (state !== undefined) query = query.where('state', '=', state);
    if (label !== undefined)
      query = query.where(({ eb, selectFrom }) =>
        eb('id', 'in', selectFrom('host_labels').select('host_id').where('label', '=', label)),
      );
    if (after !== undefined) query = query.where('name', '>', after);
    if (limit !== undefined) query = query.limit(limit);
    return (await query.execute()).map(recordOf);
  }

  /** How many there are in each state. */
  async totals(scopes: readonly string[] = []): Promise<FleetTotals['hosts']> {
    let query = this.db.selectFrom('hosts');
    if (scopes.length > 0) query = query.where((eb) => inScopes(eb, scopes, { host: 'hosts.name' }));
    const rows = await query
      .select(({ fn }) => ['state', fn.countAll().as('count')])
      .groupBy('state')
      .execute();
    return { byState: Object.fromEntries(rows.map(({ state, count }) => [state, Number(count)])) };
  }

  /** Whether an agent that dials in is enrolled. */
  async isAnyEnrolled(): Promise<boolean> {
    const query = this.db
      .selectFrom('hosts')
      .select('id')
      .where('address', 'like', '%"publicKey":%')
      .limit(1);
    return (await query.executeTakeFirst()) !== undefined;
  }

  /** Which host, by its name, has which label. */
  labels(): Promise<{ host: string; label: string }[]> {
    return this.db.selectFrom('host_labels').select(['host', 'label']).execute();
  }

  async byName(name: string): Promise<HostRecord | undefined> {
    const row = await this.db.selectFrom('hosts').selectAll().where('name', '=', name).executeTakeFirst();
    return row && recordOf(row);
  }

  async byId(id: string): Promise<HostRecord | undefined> {
    const row = await this.db.selectFrom('hosts').selectAll().where('id', '=', id).executeTakeFirst();
    return row && recordOf(row);
  }

  /** Hosts whose agent has said that it is this one. */
  async byAgentId(agentId: string): Promise<HostRecord[]> {
    return (await this.db.selectFrom('hosts').selectAll().where('agent_id', '=', agentId).execute()).map(
      recordOf,
    );
  }

  /** The names of the hosts that some agents work on. */
  async namesOfAgents(agentIds: readonly string[]): Promise<{ agentId: string; name: string }[]> {
    return this.db
      .selectFrom('hosts')
      .select(['agent_id as agentId', 'name'])
      .where('agent_id', 'in', agentIds)
      .$narrowType<{ agentId: string }>()
      .execute();
  }

  async enrolment(tokenHash: string): Promise<Enrolment | undefined> {
    const row = await this.db
      .selectFrom('enrolments')
      .selectAll()
      .where('token_hash', '=', tokenHash)
      .executeTakeFirst();
    return row && { hostId: row.host_id, expiresAt: row.expires_at, usedAt: row.used_at ?? undefined };
  }
}

export class HostWriter extends HostReader {
  async insert({ labels, ...host }: HostRecord): Promise<void> {
    const { id, name, address, agentId, state, reason, since, createdAt } = host;
    await this.db
      .insertInto('hosts')
      .values({
        ...{ id, name, state, since },
        kind: address.kind,
        address: JSON.stringify(address),
        agent_id: agentId ?? null,
        reason: reason ?? null,
        created_at: createdAt,
        labels: '[]',
      })
      .execute();
    await this.setLabels({ id, name }, labels);
  }

  async setLabels(
    { id, name: host }: { id: string; name: string },
    labels: readonly string[],
  ): Promise<void> {
    await this.db
      .updateTable('hosts')
      .set({ labels: JSON.stringify(labels) })
      .where('id', '=', id)
      .execute();
    await this.db.deleteFrom('host_labels').where('host_id', '=', id).execute();
    if (labels.length > 0)
      await this.db
        .insertInto('host_labels')
        .values(labels.map((label) => ({ host_id: id, host, label })))
        .execute();
  }

  async setAgent(id: string, agentId: string | undefined): Promise<void> {
    await this.db
      .updateTable('hosts')
      .set({ agent_id: agentId ?? null })
      .where('id', '=', id)
      .execute();
  }

  async setAddress(id: string, address: HostAddress): Promise<void> {
    await this.db
      .updateTable('hosts')
      .set({ address: JSON.stringify(address) })
      .where('id', '=', id)
      .execute();
  }

  async setState(id: string, state: Host['state'], reason: string | undefined, since: number): Promise<void> {
    await this.db
      .updateTable('hosts')
      .set({ state, reason: reason ?? null, since })
      .where('id', '=', id)
      .execute();
  }

  /** What a controller that starts knows of all of them: nothing yet. */
  async setAllConnecting(since: number): Promise<void> {
    await this.db.updateTable('hosts').set({ state: 'connecting', reason: null, since }).execute();
  }

  /** With its pools, volumes and enrolments. */
  async remove(id: string): Promise<void> {
    await this.db.deleteFrom('hosts').where('id', '=', id).execute();
  }

  async addEnrolment(tokenHash: string, hostId: string, expiresAt: number): Promise<void> {
    await this.db
      .insertInto('enrolments')
      .values({ token_hash: tokenHash, host_id: hostId, expires_at: expiresAt, used_at: null })
      .execute();
  }

  async useEnrolment(tokenHash: string, now: number): Promise<void> {
    await this.db
      .updateTable('enrolments')
      .set({ used_at: now })
      .where('token_hash', '=', tokenHash)
      .execute();
  }
}
