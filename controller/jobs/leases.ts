import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { Store } from '../store/open.ts';
import type { LeaseRow } from '../store/schema.ts';

export interface Lease extends AsyncDisposable {
  /** Rises with every lease of the volume, even over the loss of this store; the agent refuses lower ones. */
  readonly token: number;
}

/** The fenced right to change, or to read, one volume (`host/pool/volume`). Kept in the store: a restart changes nothing. */
export class Leases {
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  /** What a holder is doing, with the progress of its job. */
  async #describe(lease: LeaseRow): Promise<string> {
    if (lease.job_id === null) return lease.holder;
    const job = await this.#store
      .selectFrom('jobs')
      .select(['done_bytes', 'total_bytes', 'created_by', 'kind'])
      .where('id', '=', lease.job_id)
      .executeTakeFirst();
    if (!job) return lease.holder;
    const percent = job.total_bytes > 0 ? `, ${Math.floor((job.done_bytes / job.total_bytes) * 100)} %` : '';
    return `job ${lease.job_id} (${job.kind}${percent}, started by ${job.created_by})`;
  }

  /** Throws `volume-in-use`, naming the holder, when a writer holds it, or a reader and this one wants to write. */
  async acquire(volume: string, mode: 'read' | 'write', holder: string, jobId?: number): Promise<Lease> {
    const row = await this.#store.transaction().execute(async (store) => {
      const held = await store.selectFrom('leases').selectAll().where('volume', '=', volume).execute();
      const inTheWay = held.find((lease) => lease.mode === 'write' || mode === 'write');
      if (inTheWay) return { id: 0, token: 0, inTheWay };
      const last = await store
        .selectFrom('lease_tokens')
        .select('token')
        .where('volume', '=', volume)
        .executeTakeFirst();
      const token = Math.max((last?.token ?? 0) + 1, clock.now());
      await store
        .insertInto('lease_tokens')
        .values({ volume, token })
        .onConflict((c) => c.column('volume').doUpdateSet({ token }))
        .execute();
      const lease = { volume, mode, token, holder, job_id: jobId ?? null, acquired_at: clock.now() };
      const { id } = await store.insertInto('leases').values(lease).returning('id').executeTakeFirstOrThrow();
      return { id, token, inTheWay: undefined };
    });
    if (row.inTheWay)
      throw new StowageError(
        'volume-in-use',
        `volume '${volume}' is in use by ${await this.#describe(row.inTheWay)}`,
      );
    return {
      token: row.token,
      [Symbol.asyncDispose]: async () =>
        void (await this.#store.deleteFrom('leases').where('id', '=', row.id).execute()),
    };
  }

  /** The lease that a job holds on a volume, also after a restart. */
  async ofJob(jobId: number, volume: string): Promise<number | undefined> {
    const lease = await this.#store
      .selectFrom('leases')
      .select('token')
      .where('job_id', '=', jobId)
      .where('volume', '=', volume)
      .executeTakeFirst();
    return lease?.token;
  }

  /** Who holds a volume now, in words. */
  async holders(volume: string): Promise<string[]> {
    const held = await this.#store.selectFrom('leases').selectAll().where('volume', '=', volume).execute();
    return Promise.all(held.map((lease) => this.#describe(lease)));
  }

  /** Throws `volume-in-use` when a volume below `place` (`host` or `host/pool`) is held. */
  async refuseHeld(place: string): Promise<void> {
    const held = await this.#store
      .selectFrom('leases')
      .selectAll()
      .where('volume', '>=', `${place}/`)
      .where('volume', '<', `${place}0`)
      .executeTakeFirst();
    if (held)
      throw new StowageError(
        'volume-in-use',
        `volume '${held.volume}' is in use by ${await this.#describe(held)}`,
      );
  }

  /** At start: what no job holds that is still to end was held by what died with the last process. */
  async dropOrphans(): Promise<void> {
    await this.#store
      .deleteFrom('leases')
      .where((lease) =>
        lease.or([
          lease('job_id', 'is', null),
          lease(
            'job_id',
            'not in',
            lease.selectFrom('jobs').select('id').where('state', 'in', ['queued', 'running', 'waiting']),
          ),
        ]),
      )
      .execute();
  }
}
