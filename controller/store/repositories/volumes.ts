import type { Kysely } from 'kysely';
import type { Volume } from '../../../shared/conf/volume.ts';
import type { FleetVolume } from '../../../shared/protocol/api.ts';
import type { Database, VolumeRow } from '../schema.ts';
import { inScopes } from '../scopes.ts';

export interface VolumeFilter {
  host?: string;
  pool?: string;
  name?: string;
  id?: string;
  format?: string;
  scopes?: readonly string[];
  /** At most this many, those after `after` (`host/pool/volume`). */
  limit: number;
  after?: string;
}

/** What was parsed by its schema when it came in. */
const volumeOf = ({ host, pool, details }: Pick<VolumeRow, 'host' | 'pool' | 'details'>): FleetVolume => ({
  host,
  pool,
  ...(JSON.parse(details) as Volume),
});

/** Most names of one statement. */
const NAMES = 500;

export class VolumeReader {
  protected readonly db: Kysely<Database>;

  constructor(db: Kysely<Database>) {
    this.db = db;
  }

  /** By host, pool and name; a page is found by its key, so that the last costs what the first does. */
  async list(filter: VolumeFilter): Promise<FleetVolume[]> {
    let query = this.db.selectFrom('volumes').select(['volumes.host', 'volumes.pool', 'volumes.details']);
    if (filter.host !== undefined) query = query.where('volumes.host', '=', filter.host);
    if (filter.pool !== undefined) query = query.where('volumes.pool', '=', filter.pool);
    if (filter.name !== undefined) query = query.where('volumes.name', '=', filter.name);
    if (filter.id !== undefined) query = query.where('volumes.id', '=', filter.id);
    if (filter.format !== undefined) query = query.where('volumes.format', '=', filter.format);
    const { scopes = [] } = filter;
    if (scopes.length > 0)
      query = query.where((eb) => inScopes(eb, scopes, { host: 'volumes.host', pool: 'volumes.pool' }));
    if (filter.after !== undefined) {
      const [host = '', pool = '', name = ''] = filter.after.split('/');
      // Only what is not given can differ: so the index leads to the place.
      const isIn = filter.host === undefined || filter.host === host;
      if (isIn && filter.host !== undefined && filter.pool === pool)
        query = query.where('volumes.name', '>', name);
      else if (isIn && filter.host !== undefined)
        query = query.where(({ eb, refTuple, tuple }) =>
          eb(refTuple('volumes.pool', 'volumes.name'), '>', tuple(pool, name)),
        );
      else
        query = query.where(({ eb, refTuple, tuple }) =>
          eb(refTuple('volumes.host', 'volumes.pool', 'volumes.name'), '>', tuple(host, pool, name)),
        );
    }
    const rows = await query
      .orderBy('volumes.host')
      .orderBy('volumes.pool')
      .orderBy('volumes.name')
      .limit(filter.limit)
      .execute();
    return rows.map(volumeOf);
  }

  async find(host: string, pool: string, name: string): Promise<FleetVolume | undefined> {
    const [found] = await this.list({ host, pool, name, limit: 1 });
    return found;
  }

  async namesOf(hostId: string, pool: string): Promise<string[]> {
    const rows = await this.db
      .selectFrom('volumes')
      .select('name')
      .where('host_id', '=', hostId)
      .where('pool', '=', pool)
      .execute();
    return rows.map(({ name }) => name);
  }
}

export class VolumeWriter extends VolumeReader {
  /** Puts volumes in their places and gives the names of those that are new or differ from what was there. */
  async put(
    { id, name: host }: { id: string; name: string },
    pool: string,
    volumes: readonly Volume[],
  ): Promise<string[]> {
    // An agent may name one twice: the last word counts.
    const last = new Map(volumes.map((volume) => [volume.name, volume]));
    if (last.size === 0) return [];
    const changed = await this.db
      .insertInto('volumes')
      .values([...last.values()].map((volume) => rowOf(id, host, pool, volume)))
      .onConflict((conflict) =>
        conflict
          .columns(['host_id', 'pool', 'name'])
          .doUpdateSet(({ ref }) => ({
            id: ref('excluded.id'),
            type: ref('excluded.type'),
            format: ref('excluded.format'),
            path: ref('excluded.path'),
            capacity_bytes: ref('excluded.capacity_bytes'),
            allocation_bytes: ref('excluded.allocation_bytes'),
            snapshot_count: ref('excluded.snapshot_count'),
            backing_store: ref('excluded.backing_store'),
            etag: ref('excluded.etag'),
            damaged: ref('excluded.damaged'),
            details: ref('excluded.details'),
          }))
          .whereRef('volumes.details', 'is distinct from', 'excluded.details'),
      )
      .returning('volumes.name')
      .execute();
    return changed.map(({ name }) => name);
  }

  /** Whether a volume of this name and id was there. */
  async remove(hostId: string, pool: string, name: string, id: string): Promise<boolean> {
    const { numDeletedRows } = await this.db
      .deleteFrom('volumes')
      .where('host_id', '=', hostId)
      .where('pool', '=', pool)
      .where('name', '=', name)
      .where('id', '=', id)
      .executeTakeFirst();
    return numDeletedRows > 0n;
  }

  async removeNamed(hostId: string, pool: string, names: readonly string[]): Promise<void> {
    for (let from = 0; from < names.length; from += NAMES)
      await this.db
        .deleteFrom('volumes')
        .where('host_id', '=', hostId)
        .where('pool', '=', pool)
        .where('name', 'in', names.slice(from, from + NAMES))
        .execute();
  }
}

function rowOf(hostId: string, host: string, pool: string, volume: Volume): VolumeRow {
  return {
    host_id: hostId,
    host,
    pool,
    name: volume.name,
    id: volume.id,
    type: volume.type,
    format: volume.format,
    path: volume.path,
    capacity_bytes: volume.capacityBytes,
    allocation_bytes: volume.allocationBytes,
    snapshot_count: volume.snapshotCount,
    backing_store: volume.backingStore?.path ?? null,
    etag: volume.etag,
    damaged: volume.damaged ?? null,
    details: JSON.stringify(volume),
  };
}
