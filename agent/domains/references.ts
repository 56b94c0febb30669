import { open } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { backingFiles, LONGEST_CHAIN } from '../../shared/formats/qcow2/chain.ts';
import { isQcow2, parseQcow2Header } from '../../shared/formats/qcow2/header.ts';
import type { Domain, UsedImage, VolumeUser } from '../../shared/protocol/domains.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { locate, locator } from '../host/mounts.ts';
import { run } from '../host/run.ts';

const HEAD_BYTES = 64 << 10;

/** A volume as far as references are concerned. */
export interface PlacedVolume {
  /** Absolute; with links on the way or without. */
  path: string;
  /** As the header of its image says. */
  backingStore?: string;
}

/** A pool of the host, running or not. */
export interface PlacedPool {
  name: string;
  /** The directory that all its volumes are in; absent where they are not files. */
  directory?: string;
  /** Which volume lies at a path below its directory; absent: the one that the first step of the path names. */
  nameAt?(path: string): string | undefined;
  get(volume: string): PlacedVolume | undefined;
  names(): Iterable<string>;
  /** Volumes that stand on others, also of a pool that is stopped. */
  overlays(): Iterable<[string, PlacedVolume]>;
}

interface Place {
  /** `pool/volume`. */
  key: string;
  volume: PlacedVolume;
  /** Without links on the way. */
  path: string;
}

/** Longest that storage may take to show the first bytes of an image. */
const SILENCE_MS = 5_000;

/** Where a path leads to. Storage that may not answer is not asked: there the path stays as it is written. */
type Real = (path: string) => string;

async function headOf(path: string): Promise<Buffer | undefined> {
  await using file = await open(path, 'r');
  if (!(await file.stat()).isFile()) return undefined;
  const head = Buffer.alloc(HEAD_BYTES);
  const { bytesRead } = await file.read(head, 0, head.length, 0);
  return head.subarray(0, bytesRead);
}

/** As {@link headOf}, by a process that may hang where its storage does. Throws `tool-stalled` then. */
async function headFromAfar(path: string): Promise<Buffer | undefined> {
  const args = ['-c', String(HEAD_BYTES), '--', path];
  const { status, stdoutBytes, stderr } = await run('head', args, { stallMs: SILENCE_MS });
  if (status === 0) return stdoutBytes;
  if (/No such file|Not a directory|Is a directory/.test(stderr)) return undefined;
  throw new StowageError('io-error', `it cannot be told what ${path} stands on: ${stderr.trim()}`);
}

/** What an image that is no volume of ours stands on, as its header says. */
async function backingStoreOf(path: string): Promise<string | undefined> {
  try {
    const read = locate(path).mayHang ? await headFromAfar(path) : await headOf(path);
    return read && isQcow2(read) ? parseQcow2Header(read).backingStore?.path : undefined;
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    // Not there, or no image that anybody could start from. Whatever else is no sign that it stands on nothing.
    if (['ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG', 'invalid-image'].includes(code)) return undefined;
    throw error;
  }
}

/** Which domain uses which volume of a host, and through which others. */
export class References {
  readonly #users = new Map<string, VolumeUser[]>();
  readonly #stands = new Map<string, string[]>();
  readonly #below = new Map<string, readonly Place[]>();
  readonly #places: Places;
  readonly #real: Real;

  private constructor(places: Places, real: Real) {
    this.#places = places;
    this.#real = real;
  }

  /**
   * Looks at all configurations and all volumes as they are now. `pathOf` tells where a volume lies that a domain names by
   * its pool, also when the pool is stopped.
   */
  static async of(
    domains: readonly Domain[],
    pools: readonly PlacedPool[],
    pathOf: (pool: string, volume: string) => string | undefined,
  ): Promise<References> {
    const at = locator();
    const real: Real = (path) => at(resolve(path)).path;
    const references = new References(Places.of(pools, real), real);
    for (const pool of pools)
      for (const [name, volume] of pool.overlays()) references.#addStanding(`${pool.name}/${name}`, volume);
    for (const domain of domains)
      for (const image of domain.images) {
        const { path = image.pool && image.volume && pathOf(image.pool, image.volume) } = image;
        if (path) await references.#follow(domain, image, real(path), []);
      }
    return references;
  }

  #addStanding(key: string, { path, backingStore }: PlacedVolume): void {
    if (backingStore === undefined) return;
    // Many stand on one, and are in one directory: what they stand on is looked for once.
    const same = `${dirname(path)}\0${backingStore}`;
    let below = this.#below.get(same);
    if (!below) {
      // The last component of the path is looked at itself, not what it leads to.
      const at = join(this.#real(dirname(path)), basename(path));
      below = backingFiles(at, backingStore).flatMap((file) => this.#places.at(this.#real(file)));
      this.#below.set(same, below);
    }
    for (const place of below) push(this.#stands, place.key, key);
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
    for (const file of backingFiles(only?.path ?? path, backingStore))
      await this.#follow(domain, image, this.#real(file), next);
  }

  #add(domain: Domain, { target, role }: UsedImage, key: string, through: readonly string[]): void {
    const { name, uuid, origin, state } = domain;
    // Both forms of a domain may name it, and a chain may be told by the domain and by the images.
    const known = this.#users
      .get(key)
      ?.some(
        (other) =>
          other.domain === name && other.uuid === uuid && other.origin === origin && other.target === target,
      );
    if (known) return;
    const indirect = through.length > 0 ? ('backing' as const) : role;
    push(this.#users, key, {
      domain: name,
      uuid,
      origin,
      state,
      target,
      role: indirect,
      through: [...through],
    });
  }

  users(pool: string, volume: string): VolumeUser[] {
    return this.#users.get(`${pool}/${volume}`) ?? [];
  }

  /** All that is used, `pool/volume`, with its users. */
  used(): Iterable<[string, readonly VolumeUser[]]> {
    return this.#users;
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

/** The volumes of a host by where they are. A look-up costs by the depth of a path, not by the volumes there are. */
class Places {
  /** By their directories, without links on the way. */
  readonly #pools: { directory: string; pool: PlacedPool }[] = [];
  /** Volumes that are not in the directory of their pool, by where they really are. */
  readonly #others = new Map<string, Place>();

  static of(pools: readonly PlacedPool[], real: Real): Places {
    const places = new Places();
    for (const pool of pools) {
      if (pool.directory !== undefined) {
        places.#pools.push({ directory: real(pool.directory), pool });
        continue;
      }
      for (const name of pool.names()) {
        const volume = pool.get(name)!;
        const path = real(volume.path);
        places.#others.set(path, { key: `${pool.name}/${name}`, volume, path });
      }
    }
    return places;
  }

  #place(directory: string, pool: PlacedPool, name: string): Place | undefined {
    const volume = pool.get(name);
    if (!volume) return undefined;
    return {
      key: `${pool.name}/${name}`,
      volume,
      path: join(directory, relative(pool.directory!, volume.path)),
    };
  }

  /** The volume that a path is or is in; else all those that are in it. */
  at(path: string): Place[] {
    for (let at = path; at !== dirname(at); at = dirname(at)) {
      const other = this.#others.get(at);
      if (other) return [other];
    }
    for (const { directory, pool } of this.#pools) {
      if (!path.startsWith(`${directory}/`)) continue;
      const below = path.slice(directory.length + 1);
      const name = pool.nameAt ? pool.nameAt(below) : below.split('/')[0];
      const place = name === undefined ? undefined : this.#place(directory, pool, name);
      if (place) return [place];
    }
    const prefix = path === '/' ? '/' : `${path}/`;
    const within = this.#pools.flatMap(({ directory, pool }) =>
      `${directory}/`.startsWith(prefix)
        ? [...pool.names()].flatMap((name) => this.#place(directory, pool, name) ?? [])
        : [],
    );
    for (const [other, place] of this.#others) if (other.startsWith(prefix)) within.push(place);
    return within;
  }
}
