import { realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import type { Volume } from '../../shared/conf/volume.ts';
import type { Domain, UsedImage, VolumeUser } from '../../shared/protocol/domains.ts';

interface Place {
  pool: string;
  volume: Volume;
  /** Without links on the way. */
  path: string;
}

const real = (path: string): Promise<string> => realpath(path).catch(() => resolve(path));
const keyOf = ({ pool, volume }: Place): string => `${pool}/${volume.name}`;

/** Which domain uses which volume of a host, and through which others. */
export class References {
  readonly #users = new Map<string, VolumeUser[]>();
  readonly #stands = new Map<string, string[]>();

  /** Looks at all configurations and all volumes as they are now. */
  static async of(
    domains: readonly Domain[],
    volumes: readonly { pool: string; volume: Volume }[],
  ): Promise<References> {
    const references = new References();
    const places = await placesFor(volumes);
    const backing = new Map<string, Place>();
    for (const place of places.all) {
      const { backingStore } = place.volume;
      if (backingStore === undefined) continue;
      const [below] = places.at(await real(resolve(dirname(place.path), backingStore)));
      if (!below) continue;
      backing.set(keyOf(place), below);
      const above = references.#stands.get(keyOf(below)) ?? [];
      references.#stands.set(keyOf(below), [...above, keyOf(place)]);
    }
    for (const domain of domains)
      for (const image of domain.images)
        for (const place of await placesOf(image, places)) references.#add(domain, image, place, backing);
    return references;
  }

  /** Notes the user of a volume and of all that it stands on. */
  #add(domain: Domain, { target, role }: UsedImage, named: Place, backing: ReadonlyMap<string, Place>): void {
    const through: string[] = [];
    for (let place: Place | undefined = named; place; place = backing.get(keyOf(place))) {
      const key = keyOf(place);
      if (through.includes(key)) return;
      const users = this.#users.get(key) ?? [];
      const user: VolumeUser = {
        domain: domain.name,
        origin: domain.origin,
        state: domain.state,
        target,
        role: through.length > 0 ? 'backing' : role,
        through: [...through],
      };
      // Both forms of a domain may name it, and a chain may be told by the domain and by the images.
      const known = users.some(
        (other) => other.domain === user.domain && other.origin === user.origin && other.target === target,
      );
      if (!known) this.#users.set(key, [...users, user]);
      through.push(key);
    }
  }

  users(pool: string, volume: string): VolumeUser[] {
    return this.#users.get(`${pool}/${volume}`) ?? [];
  }

  /** Volumes, `pool/volume`, that stand on this one. */
  standingOn(pool: string, volume: string): string[] {
    return this.#stands.get(`${pool}/${volume}`) ?? [];
  }
}

/** The volumes of a host by where they are. */
class Places {
  readonly all: readonly Place[];
  readonly #byPath: ReadonlyMap<string, Place>;

  constructor(all: readonly Place[]) {
    this.all = all;
    this.#byPath = new Map(all.map((place) => [place.path, place]));
  }

  /** The volume that a path is or is in; else all those that are in it. */
  at(path: string): Place[] {
    for (let directory = path; directory !== dirname(directory); directory = dirname(directory)) {
      const place = this.#byPath.get(directory);
      if (place) return [place];
    }
    return this.all.filter((place) => place.path.startsWith(`${path}/`));
  }
}

async function placesFor(volumes: readonly { pool: string; volume: Volume }[]): Promise<Places> {
  const directories = new Map<string, Promise<string>>();
  const directoryOf = (path: string): Promise<string> => {
    const directory = dirname(path);
    const found = directories.get(directory) ?? real(directory);
    directories.set(directory, found);
    return found;
  };
  const all = await Promise.all(
    volumes.map(async ({ pool, volume }) => ({
      pool,
      volume,
      path: join(await directoryOf(volume.path), basename(volume.path)),
    })),
  );
  return new Places(all);
}

async function placesOf(image: UsedImage, places: Places): Promise<readonly Place[]> {
  if (image.path !== undefined) return places.at(await real(image.path));
  return places.all.filter(({ pool, volume }) => pool === image.pool && volume.name === image.volume);
}
