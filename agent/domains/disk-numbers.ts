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
    pools.on('event', (event) => void this.#note(event).catch(() => undefined));
  }

  async #note(event: AgentEvent): Promise<void> {
    if (event.type !== 'volumes') return;
    for (const { name } of event.gone)
      if (guestOf(name) !== undefined) await (await this.#gone.get()).set(name, clock.now());
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
    for (const { images, unreadable, origin } of await this.#domains.list()) {
      if (unreadable !== undefined)
        throw new StowageError(
          'io-error',
          `which disks the guests of ${origin} have cannot be told now: ${unreadable}`,
        );
      for (const { path, volume } of images) note(`${path ?? ''} ${volume ?? ''}`);
    }
    await this.#pools.trash(pool, async (trash) => {
      for (const { volume } of trash.volumes) note(volume.name);
    });
    const gone = await this.#gone.get();
    for (const [name, at] of [...gone.entries()])
      if (at > clock.now() - REMEMBERED_MS) note(name);
      else await gone.delete(name);
    const naming = namingOf(this.#pools.get(pool));
    for (let number = 0; number < MOST_NUMBERS; number++)
      if (!used.has(number)) return diskName(naming, { vmid, number, format });
    throw new StowageError('volume-exists', `guest ${vmid} has no number left for a disk`);
  }

  close(): Promise<void> {
    return this.#gone.close();
  }
}
