import { z } from 'zod';
import { trashedVolumeSchema } from '../../shared/conf/trash.ts';
import { disksNamedIn } from '../../shared/pve/volume-names.ts';
import { clock } from '../../shared/util/clock.ts';
import { isStowageError, StowageError } from '../../shared/util/errors.ts';
import type { Fleet } from '../hosts/fleet.ts';
import type { Store } from '../store/store.ts';

/** For so long the number of a disk that is gone is not given to another one. */
const REMEMBERED_MS = 24 * 3600_000;
/** Far more than any guest has. */
const MOST_NUMBERS = 16_384;
/** So many names may be taken by what is not known here yet, such as by another controller. */
const MOST_TRIES = 64;
/** Volumes of one page. */
const PAGE = 1000;

/** What requests under way were given for one guest. Kept until the last of them ends: one may have looked before another was done. */
interface Given {
  readonly numbers: Set<number>;
  requests: number;
}

/** Numbers for the disks of guests: never one that a stale reference could still name. */
export class DiskNumbers {
  readonly #store: Store;
  readonly #fleet: Fleet;
  /** By the guest. */
  readonly #given = new Map<number, Given>();

  constructor(store: Store, fleet: Fleet) {
    this.#store = store;
    this.#fleet = fleet;
  }

  /**
   * Calls `make` with the lowest number that no disk of the guest has on any host, no domain names, that is not in the trash of the pool,
   * and that the trail of the pool, or of others that are its storage, has nothing done of in the last 24 hours; and with the next, some 64 times, where `make` throws `volume-exists`, or
   * `volume-in-use` as somebody else makes one of the name. No two calls at once get the same number.
   */
  async with<T>(
    place: { host: string; pool: string },
    vmid: number,
    make: (number: number) => Promise<T>,
  ): Promise<T> {
    const given = this.#given.get(vmid) ?? { numbers: new Set(), requests: 0 };
    this.#given.set(vmid, given);
    given.requests++;
    try {
      const used = await this.#used(place, vmid);
      for (let number = 0, tries = 1; number < MOST_NUMBERS; number++) {
        if (used.has(number) || given.numbers.has(number)) continue;
        given.numbers.add(number);
        try {
          return await make(number);
        } catch (error) {
          const isTaken = isStowageError(error, 'volume-exists', 'volume-in-use');
          if (!isTaken || ++tries > MOST_TRIES) throw error;
        }
      }
      throw new StowageError('volume-exists', `guest ${vmid} has no number left for a disk`);
    } finally {
      if (--given.requests === 0) this.#given.delete(vmid);
    }
  }

  async #used(place: { host: string; pool: string }, vmid: number): Promise<Set<number>> {
    const part = `-${vmid}-disk-`;
    const used = new Set<number>();
    const note = (texts: readonly string[]): void => {
      for (const text of texts) for (const number of disksNamedIn(text, vmid)) used.add(number);
    };
    const { audit, domains, pools, volumes } = this.#store;
    for (let after: string | undefined; ; ) {
      // What is in nearly all names would only make the index slower.
      const page = await volumes.list({ search: `-${vmid}-`, limit: PAGE, after });
      note(page.map(({ name }) => name));
      const last = page.at(-1);
      if (page.length < PAGE || !last) break;
      after = `${last.host}/${last.pool}/${last.name}`;
    }
    for await (const texts of domains.mentioning(part)) note(texts);
    const storage = await pools.storageOf(place.host, place.pool);
    const same = storage === undefined ? [] : await pools.shared(storage);
    const places = [place, ...same.map(({ host, name: pool }) => ({ host, pool }))].map(
      ({ host, pool }) => `${host}/${pool}`,
    );
    for await (const texts of audit.mentioning(part, clock.now() - REMEMBERED_MS, places)) note(texts);
    const agent = await this.#fleet.client(place.host);
    const trash = `/v1/pools/${encodeURIComponent(place.pool)}/trash`;
    for (let after = ''; ; ) {
      const page = await agent.json(z.array(trashedVolumeSchema), `${trash}?limit=${PAGE}${after}`);
      note(page.map(({ volume }) => volume.name));
      const last = page.at(-1);
      if (page.length < PAGE || !last) return used;
      after = `&after=${last.trashedAt}-${last.id}`;
    }
  }
}
