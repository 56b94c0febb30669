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
  /** Of all volumes together. */
  readonly #volumesBytes: () => number;
  #isSeen = false;
  /** As it was told when it was seen last. */
  #before: Told | undefined;
  #fill: PoolFill | undefined;
  /** What is being made will have so much. */
  #reservedBytes = 0;
  readonly #history: Kept<UsageHistory>;
  readonly #isFilled: boolean;

  /** `isFilled`: volumes can be made in it, else how full it is says nothing. `path` is where its history is kept. */
  constructor(isFilled: boolean, volumesBytes: () => number, path: () => Promise<string>) {
    this.#isFilled = isFilled;
    this.#volumesBytes = volumesBytes;
    this.#history = new Kept(path, UsageHistory.open);
  }

  get told(): Told {
    const provisionedBytes = this.#isSeen ? this.#volumesBytes() : undefined;
    return { ...this.#space, provisionedBytes, fill: this.#fill };
  }

  /** Notes what was seen. Gives whether it is news. */
  see(space: Space, limits: PoolLimits | undefined): boolean {
    this.#space = space;
    this.#isSeen = true;
    this.weigh(limits);
    // A full disk of the host is no reason not to tell of the pool.
    void this.#history
      .get()
      .then((history) => history.add(clock.now(), space))
      .catch(() => undefined);
    const isNews = !isDeepStrictEqual(this.#before, this.told);
    this.#before = this.told;
    return isNews;
  }

  /** By other limits. */
  weigh(limits: PoolLimits | undefined): void {
    this.#fill = this.#isFilled && this.#isSeen ? fillOf(this.#space, limits, this.#fill) : undefined;
  }

  /** The pool is stopped: nothing is known of its space. */
  forget(): void {
    this.#space = NONE;
    this.#isSeen = false;
    this.#before = undefined;
    this.#fill = undefined;
  }

  /**
   * Counts what a new or larger volume will have until it is disposed. Throws `pool-overcommitted` where the volumes would have more
   * together than the limits allow, those that are being made among them.
   */
  reserve(capacityBytes: number, { provisionedPercent }: Partial<PoolLimits> = {}): Disposable {
    const wanted = this.#volumesBytes() + this.#reservedBytes + capacityBytes;
    const most = ((provisionedPercent ?? 0) * this.#space.capacityBytes) / 100;
    if (provisionedPercent !== undefined && capacityBytes > 0 && wanted > most)
      throw new StowageError(
        'pool-overcommitted',
        `the volumes of the pool would have ${wanted} bytes together; its limit of ${provisionedPercent} % allows ${Math.floor(most)}`,
      );
    this.#reservedBytes += capacityBytes;
    let isReleased = false;
    const release = (): void => {
      if (!isReleased) this.#reservedBytes -= capacityBytes;
      isReleased = true;
    };
    return { [Symbol.dispose]: release };
  }

  /** How fast it fills up, as far as that was seen. */
  async forecast(): Promise<PoolForecast> {
    return (await this.#history.get()).forecast(this.#space);
  }

  close(): Promise<void> {
    return this.#history.close();
  }
}
