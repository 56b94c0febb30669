import { join } from 'node:path';
import type { Domain, DomainUse, HostDomain, VolumeUser } from '../../shared/protocol/domains.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { Pools } from '../pools/pools.ts';
import { refuseClones } from '../pools/refusals.ts';
import type { VolumeUse } from '../volume-use.ts';
import { bounded } from './bounded.ts';
import { DefinedDomains, type HostVolumes } from './defined-domains.ts';
import { LIBVIRT_DIRECTORIES, libvirtDomains } from './found/libvirt.ts';
import { OPENVZ_DIRECTORIES, openvzDomains } from './found/openvz.ts';
import { proxmoxDomains } from './found/proxmox.ts';
import { References } from './references.ts';
import { ALL, unknown } from './unreadable.ts';

const FINDERS = [
  ['libvirt', libvirtDomains],
  ['proxmox', proxmoxDomains],
  ['openvz', openvzDomains],
] as const;

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

  static async open(
    stateDirectory: string,
    pools: Pools,
    use: VolumeUse,
    root: string,
  ): Promise<HostDomains> {
    const typeOf: HostVolumes = (pool, name, running) => {
      if (!pools.list().some((known) => known.name === pool))
        throw new StowageError(
          'pool-not-found',
          `Storage pool not found: no storage pool with matching name '${pool}'`,
        );
      const { state } = pools.get(pool);
      if (state !== 'running') {
        if (running) throw new StowageError('pool-inactive', `pool '${pool}' is not started`);
        return undefined;
      }
      const volume = pools.volumes(pool).get(name);
      if (!volume)
        throw new StowageError(
          'volume-not-found',
          `Storage volume not found: no storage vol with matching name '${name}'`,
        );
      // It may be gone in a moment.
      use.refuseWritten(`${pool}/${name}`);
      // A directory on a server is one to a disk, too.
      return volume.type === 'netdir' ? 'dir' : volume.type;
    };
    const pathOf = (pool: string, name: string): string | undefined =>
      pools.list().some((known) => known.name === pool && known.state === 'running')
        ? pools.volumes(pool).get(name)?.path
        : undefined;
    const defined = await DefinedDomains.open(join(stateDirectory, 'domains'), typeOf, pathOf);
    return new HostDomains(defined, pools, root);
  }

  /** Directories of configurations whose changes inotify reports, whether they are there or not. */
  get directories(): string[] {
    return [...LIBVIRT_DIRECTORIES, ...OPENVZ_DIRECTORIES].map((directory) => join(this.#root, directory));
  }

  /** Reads the configurations anew. What cannot be read at all has an entry of its own that says why. */
  async list(): Promise<Domain[]> {
    return (await this.#look()).domains;
  }

  async #look(): Promise<{ domains: Domain[]; hidden: Domain[] }> {
    const hidden: Domain[] = [];
    const found = await Promise.all(
      FINDERS.map(([origin, find]) =>
        find(this.#root).catch((error: NodeJS.ErrnoException) => {
          const domain = unknown(origin, ALL, error);
          // An agent of an ordinary user sees nothing of the system's hypervisors: that is so, and no failure.
          const notOurs = error.code === 'EACCES' || error.code === 'EPERM';
          if (process.getuid?.() === 0 || !notOurs) hidden.push(domain);
          return [domain];
        }),
      ),
    );
    return { domains: [...this.defined.list(), ...found.flat()], hidden };
  }

  async #references(domains: readonly Domain[]): Promise<References> {
    const pools = await this.#pools.places();
    const targets = new Map(this.#pools.list().map(({ name, target }) => [name, target.path]));
    return References.of(domains, pools, (pool, volume) => {
      const target = targets.get(pool);
      return target === undefined ? undefined : join(target, volume);
    });
  }

  /** As {@link list}, with the volumes that each uses. */
  async listWithUses(): Promise<HostDomain[]> {
    const domains = await this.list();
    if (domains.length === 0) return [];
    const uses = new Map<string, DomainUse[]>();
    const ownerOf = (origin: string, name: string, uuid?: string): string =>
      JSON.stringify([origin, name, uuid]);
    for (const [key, users] of (await this.#references(domains)).used()) {
      const slash = key.indexOf('/');
      const [pool, volume] = [key.slice(0, slash), key.slice(slash + 1)];
      for (const { domain, uuid, origin, target, role, through } of users) {
        const owner = ownerOf(origin, domain, uuid);
        const own = uses.get(owner) ?? [];
        own.push({ pool, volume, target, role, through });
        uses.set(owner, own);
      }
    }
    return domains.map((domain) => {
      const { origin, name, uuid } = domain;
      return bounded({ ...domain, uses: uses.get(ownerOf(origin, name, uuid)) ?? [] });
    });
  }

  async users(pool: string, volume: string): Promise<VolumeUser[]> {
    return (await this.#references(await this.list())).users(pool, volume);
  }

  /**
   * Throws `volume-used`, naming them, when domains use a volume or others stand on it, or when that cannot be known; of a base that only
   * others stand on `volume-has-clones`.
   */
  async refuseUsed(pool: string, volume: string): Promise<void> {
    const { domains, hidden } = await this.#look();
    const references = await this.#references(domains);
    const users = references.users(pool, volume).map(describeUser);
    const above = references.standingOn(pool, volume);
    const base = this.#pools.volumes(pool).get(volume);
    if (base?.isBase && users.length === 0) refuseClones(base, above);
    if (above.length > 0) users.push(`volume ${above.join(', ')}, which stands on it`);
    for (const { origin, unreadable } of hidden)
      users.push(`perhaps a domain of ${origin}, whose configurations cannot be read: ${unreadable}`);
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
