import { z } from 'zod';
import { trashedVolumeSchema } from '../../shared/conf/trash.ts';
import { disksNamedIn } from '../../shared/pve/volume-names.ts';
import { clock } from '../../shared/util/clock.ts';
import { isStowageError, StowageError } from '../../shared/util/errors.ts';
import type { Fleet } from '../hosts/fleet.ts';
import type { Store } from '../store/store.ts';

/** For so long the number of a disk that is gone is not given to another one. */
const REMEMBERED_MS = 24 * 3600_000;
const MOST_NUMBERS = 16_384;
/** Volumes of one page. */
const PAGE = 1000;

/** Numbers for the disks of guests: none that anything may still mean another disk by. */
export class DiskNumbers {
  readonly #store: Store;
  readonly #fleet: Fleet;
  /** Given to requests that are under way, by the guest. */
  readonly #given = new Map<number, Set<number>>();

  constructor(store: Store, fleet: Fleet) {
    this.#store = store;
    this.#fleet = fleet;
  }

  /**
   * Calls `make` with the lowest number that no disk of the guest has on any host, no domain names, that is not in the trash of the pool,
   * and that the trail of the last 24 hours knows nothing of; and with the next where `make` throws `volume-exists`, or
   * `volume-in-use` as somebody else makes one of the name. No two calls at once get the same number.
   */
  async with<T>(
    place: { host: string; pool: string },
    vmid: number,
    make: (number: number) => Promise<T>,
  ): Promise<T> {
    const given = this.#given.get(vmid) ?? new Set();
    this.#given.set(vmid, given);
    const used = await this.#used(place, vmid);
    const mine: number[] = [];
    try {
      for (let number = 0; number < MOST_NUMBERS; number++) {
        if (used.has(number) || given.has(number)) continue;
        given.add(number);
        mine.push(number);
        try {
          return await make(number);
        } catch (error) {
          if (!isStowageError(error, 'volume-exists', 'volume-in-use')) throw error;
        }
      }
      throw new StowageError('no-space', `guest ${vmid} has no number left for a disk`);
    } finally {
      for (const number of mine) given.delete(number);
      if (given.size === 0 && this.#given.get(vmid) === given) this.#given.delete(vmid);
    }
  }

  async #used(place: { host: string; pool: string }, vmid: number): Promise<Set<number>> {
    const part = `-${vmid}-disk-`;
    const used = new Set<number>();
    const note = (texts: readonly string[]): void => {
      for (const text of texts) for (const number of disksNamedIn(text, vmid)) used.add(number);
    };
    const { audit, domains, volumes } = this.#store;
    for (let after: string | undefined; ; ) {
      const page = await volumes.list({ search: part, limit: PAGE, after });
      note(page.map(({ name }) => name));
      const last = page.at(-1);
      if (page.length < PAGE || !last) break;
      after = `${last.host}/${last.pool}/${last.name}`;
    }
    for await (const texts of domains.mentioning(part)) note(texts);
    for await (const texts of audit.mentioning(part, clock.now() - REMEMBERED_MS)) note(texts);
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
