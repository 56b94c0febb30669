import type { HeldLock } from '../../shared/protocol/api.ts';
import { taskOf } from '../../shared/protocol/job-words.ts';
import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { LeaseMode, LeaseRecord } from '../store/repositories/leases.ts';
import type { Store, Transaction } from '../store/store.ts';

export interface Lease extends AsyncDisposable {
  /** Rises with every lease of the volume, even over the loss of this store; the agent refuses lower ones. */
  readonly token: number;
}

const RELEASE_MS = 2000;

/** What shall be held. */
export interface LeaseRequest {
  /** `host/pool/volume`. */
  volume: string;
  mode: LeaseMode;
  /** In words. */
  holder: string;
  jobId?: number;
}

/** The fenced right to change, or to read, one volume. Kept in the store: a restart changes nothing. */
export class Leases {
  readonly #store: Store;
  readonly #owner: string;

  /** `owner`: the id of this controller, by which it knows its own leases when it is started again. */
  constructor(store: Store, owner: string) {
    this.#store = store;
    this.#owner = owner;
  }

  /** At start: what was held for requests was held by a process that is no more. */
  dropOrphans(): Promise<void> {
    return this.#store.transaction(({ leases }) => leases.removeOrphans());
  }

  /** Throws `volume-in-use`, naming the holder, when a writer holds it, or a reader and this one wants to write. */
  async acquire(request: LeaseRequest): Promise<Lease> {
    const { id, token } = await this.#store.transaction((transaction) =>
      acquireIn(transaction, request, this.#owner),
    );
    return {
      token,
      [Symbol.asyncDispose]: () => this.#release(id),
    };
  }

  /** What was done under a lease is done, whether or not it can be let go of now: then that is tried again. */
  async #release(id: number): Promise<void> {
    try {
      await this.#store.transaction(({ leases }) => leases.remove(id));
    } catch {
      clock.after(RELEASE_MS, () => void this.#release(id), false);
    }
  }

  /** The token of the lease that a job holds on a volume, also after a restart. */
  async ofJob(jobId: number, volume: string): Promise<number | undefined> {
    return (await this.#store.leases.ofJob(jobId)).find((lease) => lease.volume === volume)?.token;
  }

  /** Who holds a volume now, in words. */
  async holders(volume: string): Promise<string[]> {
    const held = await this.#store.leases.of({ volume, object: await objectOf(this.#store, volume) });
    return Promise.all(held.map((lease) => describe(this.#store, lease)));
  }

  /** The leases on the volumes of a pool, whatever host their holders name them by. */
  async on(host: string, pool: string): Promise<HeldLock[]> {
    const storage = await this.#store.pools.storageOf(host, pool);
    const held = await this.#store.leases.on(storage ?? `${host}/${pool}`);
    return Promise.all(
      held.map(async (lease) => {
        const { volume, mode, token, acquiredAt, jobId: job } = lease;
        return { volume, mode, token, acquiredAt, job, holder: await describe(this.#store, lease) };
      }),
    );
  }

  /** Throws `volume-in-use` when a volume below `place` (`host` or `host/pool`) is held. */
  async refuseHeld(place: string): Promise<void> {
    const held = await this.#store.leases.firstBelow(place);
    if (held) throw await inUse(this.#store, held);
  }
}

/** What a lease on a volume `host/pool/volume` is on: the volume of its storage, which other hosts may have too. */
async function objectOf({ pools }: Pick<Store, 'pools'>, volume: string): Promise<string> {
  const [host = '', pool = '', ...name] = volume.split('/');
  const storage = await pools.storageOf(host, pool);
  return storage === undefined ? volume : `${storage}/${name.join('/')}`;
}

/** Takes a lease in a transaction. Throws `volume-in-use`. */
export async function acquireIn(
  transaction: Transaction,
  request: LeaseRequest,
  owner: string,
): Promise<LeaseRecord> {
  const { volume, mode } = request;
  const object = await objectOf(transaction, volume);
  const held = await transaction.leases.of({ object, volume });
  const inTheWay = held.find((lease) => lease.mode === 'write' || mode === 'write');
  if (inTheWay) throw await inUse(transaction, inTheWay);
  const token = await transaction.leases.nextToken(object, clock.now());
  return transaction.leases.insert({ ...request, object, token }, owner, clock.now());
}

type Readers = Pick<Store, 'jobs'>;

const inUse = async (readers: Readers, lease: LeaseRecord): Promise<StowageError> =>
  new StowageError(
    'volume-in-use',
    `volume '${lease.volume}' is in use by ${await describe(readers, lease)}`,
  );

/** What a holder is doing, with the progress of its job. */
async function describe({ jobs }: Readers, lease: LeaseRecord): Promise<string> {
  const job = lease.jobId === undefined ? undefined : await jobs.find(lease.jobId);
  if (!job) return lease.holder;
  const percent = job.totalBytes > 0 ? `, ${Math.floor((job.doneBytes / job.totalBytes) * 100)} %` : '';
  return `job ${job.id} (${taskOf(job)}${percent}, started by ${job.createdBy})`;
}
