import { open, realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import type { Volume } from '../../shared/conf/volume.ts';
import type { Domain, UsedImage, VolumeUser } from '../../shared/protocol/domains.ts';
import { isQcow2, parseQcow2Header } from '../formats/qcow2.ts';

/** No chain is longer; one that leads back to itself is. */
const LONGEST_CHAIN = 64;

interface Place {
  /** `pool/volume`. */
  key: string;
  volume: Volume;
  /** Without links on the way. */
  path: string;
}

const real = (path: string): Promise<string> => realpath(path).catch(() => resolve(path));

/**
 * The files that the text of a backing store in an image at `path` names: a path, `file:…`, or `json:{…}` with whatever in
 * it is an absolute path.
 */
function filesOf(path: string, backingStore: string): string[] {
  if (backingStore.startsWith('json:'))
    return [...backingStore.matchAll(/"(\/[^"]*)"/g)].map(([, found]) => found!);
  return [resolve(dirname(path), backingStore.replace(/^file:(?:\/\/(?=\/))?/, ''))];
}

/** What an image that is no volume of ours stands on, as its header says. */
async function backingStoreOf(path: string): Promise<string | undefined> {
  try {
    await using file = await open(path, 'r');
    if (!(await file.stat()).isFile()) return undefined;
    const head = Buffer.alloc(64 << 10);
    const { bytesRead } = await file.read(head, 0, head.length, 0);
    const read = head.subarray(0, bytesRead);
    return isQcow2(read) ? parseQcow2Header(read).backingStore : undefined;
  } catch {
    // Not there, or no image that anybody could start from.
    return undefined;
  }
}

/** Which domain uses which volume of a host, and through which others. */
export class References {
  readonly #users = new Map<string, VolumeUser[]>();
  readonly #stands = new Map<string, string[]>();
  readonly #places: Places;

  private constructor(places: Places) {
    this.#places = places;
  }

  /**
   * Looks at all configurations and all volumes as they are now. `pathOf` tells where a volume lies that a domain names by
   * its pool, also when the pool is stopped.
   */
  static async of(
    domains: readonly Domain[],
    volumes: readonly { pool: string; volume: Volume }[],
    pathOf: (pool: string, volume: string) => string | undefined,
  ): Promise<References> {
    const references = new References(await placesFor(volumes));
    for (const place of references.#places.all) await references.#addStanding(place);
    for (const domain of domains)
      for (const image of domain.images) {
        const { path = image.pool && image.volume && pathOf(image.pool, image.volume) } = image;
        if (path) await references.#follow(domain, image, await real(path), []);
      }
    return references;
  }

  async #addStanding({ key, path, volume: { backingStore } }: Place): Promise<void> {
    if (backingStore === undefined) return;
    for (const file of filesOf(path, backingStore))
      for (const below of this.#places.at(await real(file))) push(this.#stands, below.key, key);
  }

  /** Notes the user of what lies at a path, and of all that it stands on. */
  async #follow(domain: Domain, image: UsedImage, path: string, through: readonly string[]): Promise<void> {
    if (through.length > LONGEST_CHAIN) return;
    const places = this.#places.at(path);
    for (const { key } of places) if (!through.includes(key)) this.#add(domain, image, key, through);
    const [only, another] = places;
    // Of a directory with many volumes each was named; none of them is followed as if it were the image.
    if (another) return;
    const next = [...through, only?.key ?? path];
    if (through.includes(next.at(-1)!)) return;
    const backingStore = only ? only.volume.backingStore : await backingStoreOf(path);
    if (backingStore === undefined) return;
    for (const file of filesOf(only?.path ?? path, backingStore))
      await this.#follow(domain, image, await real(file), next);
  }

  #add(domain: Domain, { target, role }: UsedImage, key: string, through: readonly string[]): void {
    const { name, origin, state } = domain;
    // Both forms of a domain may name it, and a chain may be told by the domain and by the images.
    const known = this.#users
      .get(key)
      ?.some((other) => other.domain === name && other.origin === origin && other.target === target);
    if (known) return;
    const indirect = through.length > 0 ? ('backing' as const) : role;
    push(this.#users, key, { domain: name, origin, state, target, role: indirect, through: [...through] });
  }

  users(pool: string, volume: string): VolumeUser[] {
    return this.#users.get(`${pool}/${volume}`) ?? [];
  }

  /** Volumes, `pool/volume`, that stand on this one. */
  standingOn(pool: string, volume: string): string[] {
    return this.#stands.get(`${pool}/${volume}`) ?? [];
  }
}

function push<T>(lists: Map<string, T[]>, key: string, item: T): void {
  const list = lists.get(key);
  if (list) list.push(item);
  else lists.set(key, [item]);
}

/** The volumes of a host by where they are. */
class Places {
  /** By path. */
  readonly all: readonly Place[];
  readonly #byPath: ReadonlyMap<string, Place>;

  constructor(all: readonly Place[]) {
    this.all = all.toSorted((one, other) => (one.path < other.path ? -1 : 1));
    this.#byPath = new Map(all.map((place) => [place.path, place]));
  }

  /** The volume that a path is or is in; else all those that are in it. */
  at(path: string): Place[] {
    for (let directory = path; directory !== dirname(directory); directory = dirname(directory)) {
      const place = this.#byPath.get(directory);
      if (place) return [place];
    }
    const prefix = path === '/' ? '/' : `${path}/`;
    let [low, high] = [0, this.all.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.all[middle]!.path < prefix) low = middle + 1;
      else high = middle;
    }
    const within: Place[] = [];
    for (let at = low; this.all[at]?.path.startsWith(prefix); at++) within.push(this.all[at]!);
    return within;
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
      key: `${pool}/${volume.name}`,
      volume,
      path: join(await directoryOf(volume.path), basename(volume.path)),
    })),
  );
  return new Places(all);
}
