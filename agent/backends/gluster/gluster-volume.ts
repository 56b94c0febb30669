import type { Permissions } from '../../../shared/conf/permissions.ts';
import { isStowageError, StowageError } from '../../../shared/util/errors.ts';
import type { Space } from '../backend.ts';
import { gfapi, hasErrno, readStat, STAT_BYTES, type Stat } from './gfapi.ts';
import { GlusterFile } from './gluster-file.ts';

const O_RDWR = 2;
const O_CREAT = 0o100;
const O_EXCL = 0o200;
/** `struct dirent`: the name begins at byte 19. */
const DIRENT_BYTES = 280;
const NAME_AT = 19;
const DEFAULT_PORT = 24007;
const LOG_ERRORS = 4;
const ATTRIBUTE_BYTES = 64;
const ENODATA = 61;
const EOPNOTSUPP = 95;

/** Which volume of which server. */
export interface GlusterAddress {
  host: string;
  port?: number;
  volume: string;
}

/**
 * A connection to a gluster volume. It is kept for as long as the process lives: gluster's library takes ten seconds to let go of
 * one (its issues 1962 and 2606), and the end of a process lets go of it at once.
 */
export class GlusterVolume {
  static readonly #open = new Map<string, Promise<GlusterVolume>>();
  readonly #fs: bigint;
  /** Of the volume, whatever it is called. */
  readonly id: string;

  private constructor(fs: bigint, id: string) {
    this.#fs = fs;
    this.id = id;
  }

  static connect(address: GlusterAddress): Promise<GlusterVolume> {
    const key = JSON.stringify(address);
    let opened = GlusterVolume.#open.get(key);
    if (!opened) {
      opened = GlusterVolume.#connect(address).catch((error) => {
        GlusterVolume.#open.delete(key);
        throw error;
      });
      GlusterVolume.#open.set(key, opened);
    }
    return opened;
  }

  static async #connect({ host, port = DEFAULT_PORT, volume }: GlusterAddress): Promise<GlusterVolume> {
    const fs = BigInt(await gfapi().create(volume));
    try {
      await gfapi().setServer(fs, 'tcp', host, port);
      await gfapi().setLogging(fs, '/dev/null', LOG_ERRORS);
      await gfapi().init(fs);
      const id = Buffer.alloc(16);
      await gfapi().volumeId(fs, id, id.length);
      return new GlusterVolume(fs, id.toString('hex'));
    } catch (error) {
      // Letting go may take its ten seconds: nobody waits for that.
      void gfapi()
        .fini(fs)
        .catch(() => undefined);
      const words = error instanceof Error ? error.message : String(error);
      throw new StowageError(
        'pool-inaccessible',
        `${host} does not give out the volume '${volume}': ${words}`,
      );
    }
  }

  /** Throws `volume-not-found`. */
  async stat(path: string): Promise<Stat> {
    const buffer = Buffer.alloc(STAT_BYTES);
    await gfapi().lstat(this.#fs, path, buffer);
    return readStat(buffer);
  }

  /** Names and what they are: one round trip for many. */
  async *list(directory: string): AsyncGenerator<{ name: string; stat: Stat }> {
    const fd = await gfapi().opendir(this.#fs, directory);
    try {
      const [buffer, entry, result] = [STAT_BYTES, DIRENT_BYTES, 8].map((size) => Buffer.alloc(size)) as [
        Buffer,
        Buffer,
        Buffer,
      ];
      for (;;) {
        await gfapi().readdirplus(fd, buffer, entry, result);
        if (result.readBigUInt64LE() === 0n) return;
        const name = entry.toString('utf8', NAME_AT, entry.indexOf(0, NAME_AT));
        if (name !== '.' && name !== '..') yield { name, stat: readStat(buffer) };
      }
    } finally {
      await gfapi().closedir(fd);
    }
  }

  async space(directory: string): Promise<Space> {
    const result = Buffer.alloc(128);
    await gfapi().statvfs(this.#fs, directory, result);
    const [unit, blocks, free, available] = [8, 16, 24, 32].map((at) => Number(result.readBigUInt64LE(at)));
    return {
      capacityBytes: blocks! * unit!,
      allocationBytes: (blocks! - free!) * unit!,
      availableBytes: available! * unit!,
    };
  }

  async open(path: string, mode: 'read' | 'write'): Promise<GlusterFile> {
    const fd = BigInt(await gfapi().open(this.#fs, path, mode === 'read' ? 0 : O_RDWR));
    return GlusterFile.of(fd);
  }

  /** Mode 0600. Throws `volume-exists`. */
  async create(path: string, sizeBytes: number): Promise<void> {
    const fd = BigInt(await gfapi().creat(this.#fs, path, O_RDWR | O_CREAT | O_EXCL, 0o600));
    await using file = await GlusterFile.of(fd);
    await file.setSize(sizeBytes);
    await file.flush();
  }

  /** Throws `volume-exists`. A kill may leave it under both names. */
  async rename(from: string, to: string): Promise<void> {
    await gfapi()
      .link(this.#fs, from, to)
      .catch(async (error) => {
        // A kill between the two steps left it under both.
        const [one, other] = await Promise.all([this.stat(from), this.stat(to)]);
        if (!isStowageError(error, 'volume-exists') || one.ino !== other.ino) throw error;
      });
    await gfapi().unlink(this.#fs, from);
  }

  /** What is kept with a file under a name; undefined where nothing is, or the bricks cannot keep anything. */
  async attribute(path: string, name: string): Promise<string | undefined> {
    const value = Buffer.alloc(ATTRIBUTE_BYTES);
    try {
      const length = await gfapi().getxattr(this.#fs, path, name, value, value.length);
      return value.toString('utf8', 0, Number(length));
    } catch (error) {
      if (!hasErrno(error, ENODATA) && !hasErrno(error, EOPNOTSUPP)) throw error;
      return undefined;
    }
  }

  async setAttribute(path: string, name: string, value: string): Promise<void> {
    const bytes = Buffer.from(value);
    await gfapi()
      .setxattr(this.#fs, path, name, bytes, bytes.length, 0)
      .catch((error) => {
        if (!hasErrno(error, EOPNOTSUPP)) throw error;
      });
  }

  async remove(path: string): Promise<void> {
    await gfapi().unlink(this.#fs, path);
  }

  async setPermissions(path: string, { mode, owner, group }: Permissions): Promise<void> {
    const { uid, gid } = await this.stat(path);
    if (owner !== undefined || group !== undefined)
      await gfapi().chown(this.#fs, path, owner ?? uid, group ?? gid);
    if (mode !== undefined) await gfapi().chmod(this.#fs, path, mode);
  }
}
