import { join } from 'node:path';
import type { Domain, VolumeUser } from '../../shared/protocol/domains.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { Pools } from '../pools.ts';
import { DefinedDomains } from './defined-domains.ts';
import { libvirtDomains } from './found/libvirt.ts';
import { openvzDomains } from './found/openvz.ts';
import { proxmoxDomains } from './found/proxmox.ts';
import { References } from './references.ts';

/** All users of volumes on this host: what was defined here, and what its hypervisors keep themselves. */
export class HostDomains {
  readonly defined: DefinedDomains;
  readonly #pools: Pools;
  /** Where the configurations of hypervisors are looked for; `/` but in tests. */
  readonly #root: string;

  private constructor(defined: DefinedDomains, pools: Pools, root: string) {
    this.defined = defined;
    this.#pools = pools;
    this.#root = root;
  }

  static async open(stateDirectory: string, pools: Pools, root: string): Promise<HostDomains> {
    const defined = await DefinedDomains.open(join(stateDirectory, 'domains'), (pool, name, running) => {
      if (!pools.list().some((known) => known.name === pool))
        throw new StowageError(
          'pool-not-found',
          `Storage pool not found: no storage pool with matching name '${pool}'`,
        );
      if (running) pools.driver(pool);
      else if (pools.get(pool).state !== 'running') return undefined;
      const volume = pools.volumes(pool).find((known) => known.name === name);
      if (!volume)
        throw new StowageError(
          'volume-not-found',
          `Storage volume not found: no storage vol with matching name '${name}'`,
        );
      return volume.type;
    });
    return new HostDomains(defined, pools, root);
  }

  /** Reads the configurations anew. */
  async list(): Promise<Domain[]> {
    const found = await Promise.all([
      libvirtDomains(this.#root),
      proxmoxDomains(this.#root),
      openvzDomains(this.#root),
    ]);
    return [...this.defined.list(), ...found.flat()];
  }

  async #references(): Promise<References> {
    const volumes = this.#pools
      .running()
      .flatMap((pool) => this.#pools.volumes(pool).map((volume) => ({ pool, volume })));
    return References.of(await this.list(), volumes);
  }

  async users(pool: string, volume: string): Promise<VolumeUser[]> {
    return (await this.#references()).users(pool, volume);
  }

  /** Throws `volume-used`, naming them, when domains use a volume or others stand on it. */
  async refuseUsed(pool: string, volume: string): Promise<void> {
    const references = await this.#references();
    const users = references.users(pool, volume).map(describeUser);
    const above = references.standingOn(pool, volume);
    if (above.length > 0) users.push(`volume ${above.join(', ')}, which stands on it`);
    if (users.length > 0)
      throw new StowageError('volume-used', `volume '${pool}/${volume}' is used by ${users.join('; ')}`);
  }

  /** The document of a domain that was defined here. Throws for those of others, which only they may change. */
  async own(name: string): Promise<DefinedDomains> {
    if (!this.defined.list().some((domain) => domain.name === name)) {
      const other = (await this.list()).find((domain) => domain.name === name);
      if (other)
        throw new StowageError(
          'not-supported',
          `domain '${name}' is ${other.origin}'s own; it is changed where it is kept`,
        );
    }
    return this.defined;
  }
}

function describeUser({ domain, origin, state, target, through }: VolumeUser): string {
  const whose = origin === 'stowage' ? '' : ` of ${origin}`;
  const by = through.length > 0 ? ` through ${through.join(', ')}` : '';
  return `domain '${domain}'${whose} (${state}) as ${target}${by}`;
}
