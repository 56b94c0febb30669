import type { Kysely } from 'kysely';
import type { Database, LeaseRow } from '../schema.ts';

export type LeaseMode = 'read' | 'write';

export interface LeaseRecord {
  id: number;
  /** `host/pool/volume`: as the holder names it. */
  volume: string;
  /** What is held: `STORAGE/volume`, the same for every host that has the storage, or `host/pool/volume`. */
  object: string;
  mode: LeaseMode;
  /** Rises with every lease of the object. */
  token: number;
  holder: string;
  jobId?: number;
  /** ms since the epoch. */
  acquiredAt: number;
}

const leaseOf = ({
  id,
  volume,
  object,
  mode,
  token,
  holder,
  job_id,
  acquired_at,
}: LeaseRow): LeaseRecord => ({
  ...{ id, volume, mode, token, holder },
  object: object ?? volume,
  jobId: job_id ?? undefined,
  acquiredAt: acquired_at,
});

export class LeaseReader {
  protected readonly db: Kysely<Database>;

  constructor(db: Kysely<Database>) {
    this.db = db;
  }

  /** Those on an object, or on a volume that was named so before it was known which storage it is on. */
  async of({ object, volume }: Pick<LeaseRecord, 'object' | 'volume'>): Promise<LeaseRecord[]> {
    const rows = await this.db
      .selectFrom('leases')
      .selectAll()
      .where((eb) => eb.or([eb('object', '=', object), eb('volume', '=', volume)]))
      .execute();
    return rows.map(leaseOf);
  }

  /** Those on the volumes of a storage, or of a pool `host/pool`, by what is held. */
  async on(place: string): Promise<LeaseRecord[]> {
    const rows = await this.db
      .selectFrom('leases')
      .selectAll()
      .where('object', '>=', `${place}/`)
      .where('object', '<', `${place}0`)
      .orderBy('object')
      .execute();
    return rows.map(leaseOf);
  }

  async ofJob(jobId: number): Promise<LeaseRecord[]> {
    const rows = await this.db.selectFrom('leases').selectAll().where('job_id', '=', jobId).execute();
    return rows.map(leaseOf);
  }

  /** One of those on volumes below `place`, which is `host` or `host/pool`. */
  async firstBelow(place: string): Promise<LeaseRecord | undefined> {
    const row = await this.db
      .selectFrom('leases')
      .selectAll()
      .where('volume', '>=', `${place}/`)
      // '0' is what comes behind '/'.
      .where('volume', '<', `${place}0`)
      .executeTakeFirst();
    return row && leaseOf(row);
  }
}

export class LeaseWriter extends LeaseReader {
  /** Gives the next token of an object: higher than all before, over the loss of this store too, as it follows the time. */
  async nextToken(object: string, now: number): Promise<number> {
    const last = await this.db
      .selectFrom('lease_tokens')
      .select('token')
      .where('volume', '=', object)
      .executeTakeFirst();
    const token = Math.max((last?.token ?? 0) + 1, now);
    await this.db
      .insertInto('lease_tokens')
      .values({ volume: object, token })
      .onConflict((conflict) => conflict.column('volume').doUpdateSet({ token }))
      .execute();
    return token;
  }

  async insert(
    lease: Omit<LeaseRecord, 'id' | 'acquiredAt'>,
    owner: string,
    now: number,
  ): Promise<LeaseRecord> {
    const { volume, object, mode, token, holder, jobId } = lease;
    const { id } = await this.db
      .insertInto('leases')
      .values({ volume, object, mode, token, holder, job_id: jobId ?? null, owner, acquired_at: now })
      .returning('id')
      .executeTakeFirstOrThrow();
    return { ...lease, id, acquiredAt: now };
  }

  async setToken(id: number, token: number): Promise<void> {
    await this.db.updateTable('leases').set({ token }).where('id', '=', id).execute();
  }

  async remove(id: number): Promise<void> {
    await this.db.deleteFrom('leases').where('id', '=', id).execute();
  }

  async removeOfJob(jobId: number): Promise<void> {
    await this.db.deleteFrom('leases').where('job_id', '=', jobId).execute();
  }

  /**
   * Those that nobody holds any more when a controller starts: of requests, which ended with the process that served them, and
   * of jobs that have ended.
   */
  async removeOrphans(): Promise<void> {
    await this.db
      .deleteFrom('leases')
      .where((eb) =>
        eb.or([
          eb('job_id', 'is', null),
          eb(
            'job_id',
            'not in',
            eb
              .selectFrom('jobs')
              .select('id')
              .where('state', 'in', ['queued', 'running', 'waiting', 'paused']),
          ),
        ]),
      )
      .execute();
  }
}
