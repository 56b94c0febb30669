import { join } from 'node:path';
import { z } from 'zod';
import type { AgentEvent } from '../../shared/protocol/agent.ts';
import { namingOf } from '../../shared/pve/images.ts';
import { diskName, disksNamedIn, guestOf } from '../../shared/pve/volume-names.ts';
import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { RecordLog } from '../host/record-log.ts';
import { Kept } from '../pools/kept.ts';
import type { Pools } from '../pools/pools.ts';
import type { HostDomains } from './host-domains.ts';
import { isHidden } from './unreadable.ts';

/** For so long the number of a disk that is gone is not given to another one. */
const REMEMBERED_MS = 24 * 3600_000;
/** Far more than any guest has. */
const MOST_NUMBERS = 16_384;

/** Names for the disks of guests, for who asks this agent and no controller: the plug-in of Proxmox VE. */
export class DiskNumbers {
  readonly #pools: Pools;
  readonly #domains: HostDomains;
  /** When images of guests went away, by name: ms since the epoch. */
  readonly #gone: Kept<RecordLog<number>>;

  constructor(stateDirectory: string, pools: Pools, domains: HostDomains) {
    this.#pools = pools;
    this.#domains = domains;
    this.#gone = new Kept(
      async () => join(stateDirectory, 'removed-disks.log'),
      (file) => RecordLog.open(file, z.number()),
    );
    // Where it cannot be written down it is known until the agent ends.
    pools.on('event', (event) => void this.#note(event).catch(() => undefined));
  }

  async #note(event: AgentEvent): Promise<void> {
    if (event.type !== 'volumes') return;
    const names = event.gone.map(({ name }) => name).filter((name) => guestOf(name) !== undefined);
    if (names.length === 0) return;
    const gone = await this.#gone.get();
    await Promise.all([...names.map((name) => gone.set(name, clock.now())), this.#forgetOld(gone)]);
  }

  /** The oldest come first: what is looked at is what goes, and one more. */
  async #forgetOld(gone: RecordLog<number>): Promise<void> {
    const old: string[] = [];
    for (const [name, at] of gone.entries()) {
      if (at > clock.now() - REMEMBERED_MS) break;
      old.push(name);
    }
    await Promise.all(old.map((name) => gone.delete(name)));
  }

  /**
   * The name with the lowest number that no volume of this host has, no domain names, that is not in the trash of the pool, and that
   * nothing had here in the last 24 hours. It is not held: whoever makes the volume may find that it is taken.
   */
  async freeName(pool: string, vmid: number, format: string): Promise<string> {
    const used = new Set<number>();
    const note = (text: string): void => {
      for (const number of disksNamedIn(text, vmid)) used.add(number);
    };
    for (const { name } of this.#pools.list())
      for (const volume of this.#pools.volumesOrNone(name).keys()) note(volume);
    for (const domain of await this.#domains.list()) {
      if (isHidden(domain))
        throw new StowageError(
          'io-error',
          `which disks the guests of ${domain.origin} have cannot be told now: ${domain.unreadable}`,
        );
      for (const { path, volume } of domain.images) note(`${path ?? ''} ${volume ?? ''}`);
    }
    await this.#pools.trash(pool, async (trash) => {
      for (const { volume } of trash.volumes) note(volume.name);
    });
    const gone = await this.#gone.get();
    await this.#forgetOld(gone);
    for (const [name] of gone.entries()) note(name);
    const naming = namingOf(this.#pools.get(pool));
    for (let number = 0; number < MOST_NUMBERS; number++)
      if (!used.has(number)) return diskName(naming, { vmid, number, format });
    throw new StowageError('volume-exists', `guest ${vmid} has no number left for a disk`);
  }

  close(): Promise<void> {
    return this.#gone.close();
  }
}
