import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { qemuImgCommands } from '../../shared/conf/qemu-img.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { copyFileFast } from '../host/copy.ts';
import { openRegular, readFully, removeIfExists } from '../host/files.ts';
import { runOk } from '../host/run.ts';
import { FileSource } from '../transfer/file-source.ts';
import type { FormatDriver } from './format.ts';
import { overwrite } from './wipe.ts';

const MAGIC = 0x514649fb;
const INCOMPATIBLE_DIRTY_CORRUPT_DATAFILE = { corrupt: 1n << 1n, dataFile: 1n << 2n };

export interface Qcow2Header {
  version: number;
  capacityBytes: number;
  backingStore: string | undefined;
  snapshotCount: number;
  externalData: boolean;
  corrupt: boolean;
  encrypted: boolean;
}

export function isQcow2(head: Buffer): boolean {
  return head.length >= 4 && head.readUInt32BE(0) === MAGIC;
}

/** Reads a qcow2 header (big-endian; the first cluster is enough). Throws `invalid-image` for what is not sound. */
export function parseQcow2Header(head: Buffer): Qcow2Header {
  const refuse = (why: string): never => {
    throw new StowageError('invalid-image', `not a usable qcow2 image: ${why}`);
  };
  if (head.length < 72 || !isQcow2(head)) refuse('the magic number is wrong');
  const version = head.readUInt32BE(4);
  if (version !== 2 && version !== 3) refuse(`version ${version} is unknown`);
  const clusterBits = head.readUInt32BE(20);
  if (clusterBits < 9 || clusterBits > 21) refuse(`clusters of 2^${clusterBits} bytes are not allowed`);
  const capacity = head.readBigUInt64BE(24);
  if (capacity > BigInt(Number.MAX_SAFE_INTEGER)) refuse(`a capacity of ${capacity} bytes is out of range`);
  const backingOffset = Number(head.readBigUInt64BE(8));
  const backingLength = head.readUInt32BE(16);
  if (backingOffset !== 0 && (backingLength > 1023 || backingOffset + backingLength > head.length))
    refuse('the backing file name lies outside the header');
  const features = version === 3 && head.length >= 80 ? head.readBigUInt64BE(72) : 0n;
  return {
    version,
    capacityBytes: Number(capacity),
    backingStore:
      backingOffset === 0 ? undefined : head.toString('utf8', backingOffset, backingOffset + backingLength),
    snapshotCount: head.readUInt32BE(60),
    externalData: (features & INCOMPATIBLE_DIRTY_CORRUPT_DATAFILE.dataFile) !== 0n,
    corrupt: (features & INCOMPATIBLE_DIRTY_CORRUPT_DATAFILE.corrupt) !== 0n,
    encrypted: head.readUInt32BE(32) !== 0,
  };
}

/** An image from outside must stand alone: a backing or data file would make us open any file of the host. */
function refuseReferences(header: Qcow2Header): void {
  if (header.externalData)
    throw new StowageError('invalid-image', 'a qcow2 image with an external data file is refused');
  if (header.backingStore !== undefined) {
    throw new StowageError(
      'invalid-image',
      `a qcow2 image with a backing file ('${header.backingStore.slice(0, 100)}') is refused`,
    );
  }
}

async function readHeader(path: string): Promise<Qcow2Header> {
  await using file = await openRegular(path, 'r');
  const head = Buffer.alloc(64 << 10);
  await readFully(file, head, 0);
  return parseQcow2Header(head);
}

/**
 * Runs qemu-img on a file that we opened ourselves, by its descriptor: a name swapped for a link after the check
 * leads nowhere. The format is always given, so that qemu-img never guesses.
 */
async function qemuImg(
  path: string,
  args: (file: string) => string[],
  signal?: AbortSignal,
): Promise<string> {
  await using file = await openRegular(path, 'r+');
  const { stdout } = await runOk('qemu-img', args(`/proc/${process.pid}/fd/${file.fd}`), { signal });
  await file.sync();
  return stdout;
}

/** What qemu-img has made: for its owner only, and durable. */
async function keepPrivate(path: string): Promise<void> {
  await using file = await openRegular(path, 'r+');
  await file.chmod(0o600);
  await file.sync();
}

const infoSchema = z.object({
  snapshots: z.array(z.object({ id: z.string(), name: z.string(), 'vm-state-size': z.number() })).optional(),
});

async function snapshotNames(path: string): Promise<string[]> {
  const info = infoSchema.parse(
    JSON.parse(await qemuImg(path, (file) => ['info', '-f', 'qcow2', '--output=json', file])),
  );
  return (info.snapshots ?? []).map((snapshot) => snapshot.name);
}

async function requireSnapshot(path: string, id: string): Promise<void> {
  if (!(await snapshotNames(path)).includes(id))
    throw new StowageError('snapshot-not-found', `the volume has no snapshot ${id}`);
}

/** qcow2 images, worked on by qemu-img; headers are read here. */
export const qcow2: FormatDriver = {
  name: 'qcow2',
  isDirectory: false,

  async facts(path) {
    await using file = await openRegular(path, 'r');
    const head = Buffer.alloc(4096);
    await readFully(file, head, 0);
    const header = parseQcow2Header(head);
    const stat = await file.stat();
    return {
      capacityBytes: header.capacityBytes,
      allocationBytes: stat.blocks * 512,
      snapshotCount: header.snapshotCount,
      backingStore: header.backingStore,
    };
  },

  async create(path, volume, signal) {
    const { capacityBytes, preallocate, qcow2: options } = volume;
    const [create = []] = qemuImgCommands(
      {
        document: {
          type: 'file',
          name: volume.name,
          capacityBytes: BigInt(capacityBytes),
          // The metadata is written, the blocks are not reserved.
          allocationBytes: 0n,
          target: {
            path,
            format: 'qcow2',
            compat: options?.compat,
            clusterBytes: options?.clusterBytes === undefined ? undefined : BigInt(options.clusterBytes),
            features: options?.features,
          },
        },
      },
      { preallocateMetadata: preallocate },
    );
    try {
      await runOk('qemu-img', create, { signal });
      await keepPrivate(path);
    } catch (error) {
      await removeIfExists(path);
      throw error;
    }
  },

  async resize(path, capacityBytes, shrink) {
    const header = await readHeader(path);
    if (capacityBytes < header.capacityBytes && !shrink) {
      throw new StowageError(
        'shrink-refused',
        `the volume has ${header.capacityBytes} bytes; cutting it to ${capacityBytes} needs the shrink flag`,
      );
    }
    await qemuImg(path, (file) => [
      'resize',
      '-q',
      '-f',
      'qcow2',
      ...(shrink ? ['--shrink'] : []),
      file,
      String(capacityBytes),
    ]);
  },

  async clone(source, target, signal) {
    await copyFileFast(source, target, { signal }).catch(async (error) => {
      if (error.code !== 'EEXIST') await removeIfExists(target);
      throw error;
    });
  },

  async wipe(path, algorithm, signal) {
    const { capacityBytes, snapshotCount } = await qcow2.facts(path);
    if (snapshotCount > 0)
      throw new StowageError(
        'volume-has-snapshots',
        'a volume with snapshots is not wiped; delete them first',
      );
    await overwrite(path, algorithm, signal);
    await runOk('qemu-img', ['create', '-q', '-f', 'qcow2', path, String(capacityBytes)], { signal });
    await using file = await openRegular(path, 'r+');
    await file.sync();
  },

  async imageParts(path) {
    await using file = await openRegular(path, 'r');
    return [{ name: '', sizeBytes: (await file.stat()).size, dense: false }];
  },

  inspect(head) {
    refuseReferences(parseQcow2Header(head));
  },

  async adopt(path) {
    refuseReferences(await readHeader(path));
  },

  async openContent(path, scratch, signal) {
    const header = await readHeader(path);
    refuseReferences(header);
    if (header.encrypted)
      throw new StowageError('not-supported', 'the content of an encrypted image cannot be read');
    const content = join(scratch, 'content.raw');
    await rm(content, { force: true });
    await qemuImg(path, (file) => ['convert', '-f', 'qcow2', '-O', 'raw', file, content], signal);
    return FileSource.open(content);
  },

  async fromContent(content, path, volume, signal) {
    try {
      await runOk('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', content, path], { signal });
      const size = (await qcow2.facts(path)).capacityBytes;
      if (size < volume.capacityBytes)
        await runOk('qemu-img', ['resize', '-q', '-f', 'qcow2', path, String(volume.capacityBytes)]);
      await keepPrivate(path);
    } catch (error) {
      await removeIfExists(path);
      throw error;
    }
  },

  snapshots: {
    async list(path) {
      return (await snapshotNames(path)).map((id) => ({ id, current: false, allocationBytes: 0 }));
    },
    async create(path, id = `snapshot-${Date.now()}`) {
      if ((await snapshotNames(path)).includes(id))
        throw new StowageError('snapshot-exists', `the snapshot ${id} exists already`);
      await qemuImg(path, (file) => ['snapshot', '-q', '-c', id, file]);
      return id;
    },
    async switch(path, id) {
      await requireSnapshot(path, id);
      await qemuImg(path, (file) => ['snapshot', '-q', '-a', id, file]);
    },
    async delete(path, id, signal) {
      await requireSnapshot(path, id);
      await qemuImg(path, (file) => ['snapshot', '-q', '-d', id, file], signal);
    },
  },
};
