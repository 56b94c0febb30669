import { isDeepStrictEqual } from 'node:util';
import type { Pool } from '../../shared/conf/pool.ts';
import type { PoolFill, PoolForecast, PoolLimits } from '../../shared/conf/pool-usage.ts';
import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { Space } from '../backends/backend.ts';
import { fillOf } from './fill.ts';
import { Kept } from './kept.ts';
import { UsageHistory } from './usage-history.ts';

const NONE: Space = { capacityBytes: 0, allocationBytes: 0, availableBytes: 0 };

/** What is told of the space of a pool. */
type Told = Space & Pick<Pool, 'provisionedBytes' | 'fill'>;

/** The space of one pool while it runs: how much there is, what its volumes may grow to, and how full it counts as. */
export class PoolSpace {
  #space: Space = NONE;
  /** Of the volumes together; undefined while the pool does not run. */
  #provisionedBytes: number | undefined;
  #fill: PoolFill | undefined;
  /** What is being made will have so much. */
  #promisedBytes = 0;
  readonly #history: Kept<UsageHistory>;
  readonly #isFilled: boolean;

  /** `isFilled`: volumes can be made in it, else how full it is says nothing. `path` is where its history is kept. */
  constructor(isFilled: boolean, path: () => Promise<string>) {
    this.#isFilled = isFilled;
    this.#history = new Kept(path, UsageHistory.open);
  }

  get told(): Told {
    return { ...this.#space, provisionedBytes: this.#provisionedBytes, fill: this.#fill };
  }

  /** Notes what was seen. Gives whether it is news. */
  see(space: Space, provisionedBytes: number, limits: PoolLimits | undefined): boolean {
    const before = this.told;
    this.#space = space;
    this.#provisionedBytes = provisionedBytes;
    this.weigh(limits);
    // A full disk of the host is no reason not to tell of the pool.
    void this.#history
      .get()
      .then((history) => history.add(clock.now(), space))
      .catch(() => undefined);
    return !isDeepStrictEqual(before, this.told);
  }

  /** By other limits. */
  weigh(limits: PoolLimits | undefined): void {
    const isSeen = this.#provisionedBytes !== undefined;
    this.#fill = this.#isFilled && isSeen ? fillOf(this.#space, limits, this.#fill) : undefined;
  }

  /** The pool is stopped: nothing is known of its space. */
  forget(): void {
    this.#space = NONE;
    this.#provisionedBytes = undefined;
    this.#fill = undefined;
  }

  /**
   * Counts what a new or larger volume will have until it is disposed. Throws `pool-overcommitted` where the volumes would have more
   * together than the limits allow, those that are being made among them; `volumesBytes` is what those have that are there.
   */
  promise(
    capacityBytes: number,
    volumesBytes: number,
    { provisionedPercent }: Partial<PoolLimits> = {},
  ): Disposable {
    const wanted = volumesBytes + this.#promisedBytes + capacityBytes;
    const most = ((provisionedPercent ?? 0) * this.#space.capacityBytes) / 100;
    if (provisionedPercent !== undefined && capacityBytes > 0 && wanted > most)
      throw new StowageError(
        'pool-overcommitted',
        `the volumes of the pool would have ${wanted} bytes together; its limit of ${provisionedPercent} % allows ${Math.floor(most)}`,
      );
    this.#promisedBytes += capacityBytes;
    let isKept = false;
    const keep = (): void => {
      if (!isKept) this.#promisedBytes -= capacityBytes;
      isKept = true;
    };
    return { [Symbol.dispose]: keep };
  }

  /** How fast it fills up, as far as that was seen. */
  async forecast(): Promise<PoolForecast> {
    return (await this.#history.get()).forecast(this.#space);
  }

  close(): Promise<void> {
    return this.#history.close();
  }
}
