import { mkdir, readdir, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { StowageError } from '../../../shared/util/errors.ts';
import { Revert } from '../../../shared/util/revert.ts';
import { exists, openRegular, readFully, removeIfExists, syncDirectory } from '../../host/files.ts';
import { lockFile } from '../../host/lock.ts';
import { BASE_IMAGE, DESCRIPTOR, newDescriptor } from './descriptor.ts';
import {
  DEFAULT_CLUSTER_SECTORS,
  decodeHeader,
  HEADER_BYTES,
  hasPloopSignature,
  newHeader,
  SECTOR,
} from './header.ts';
import { createExpanded, createRaw, type Delta } from './image.ts';
import { orphanDeltas, writeDescriptor } from './volume.ts';

export type Layout = 'expanded' | 'preallocated' | 'raw';

export interface CreateOptions {
  /** Rounded up to whole clusters. */
  capacityBytes: number;
  /** Default 2, which the current kernel module reads and only 2 can hold 2 TiB and more. */
  version?: 1 | 2;
  layout?: Layout;
  /** Default 2048, which is 1 MiB. */
  clusterSectors?: number;
}

/** Creates the image file of a new volume, open for writing content. The descriptor comes with {@link describe}. */
export async function createImage(path: string, options: CreateOptions): Promise<Delta> {
  const clusterSectors = options.clusterSectors ?? DEFAULT_CLUSTER_SECTORS;
  const version = options.version ?? 2;
  const header = newHeader(version, options.capacityBytes, clusterSectors);
  const sizeBytes = header.sizeSectors * SECTOR;
  if (options.layout === 'raw') return createRaw(path, sizeBytes, clusterSectors * SECTOR);
  return createExpanded(path, {
    version,
    sizeBytes,
    clusterSectors,
    preallocated: options.layout === 'preallocated',
  });
}

/** Writes the descriptor of a volume that has one image. */
export async function describe(directory: string, options: CreateOptions): Promise<void> {
  const clusterSectors = options.clusterSectors ?? DEFAULT_CLUSTER_SECTORS;
  const { sizeSectors } = newHeader(options.version ?? 2, options.capacityBytes, clusterSectors);
  const type = options.layout === 'raw' ? 'Plain' : 'Compressed';
  await writeDescriptor(
    directory,
    newDescriptor(sizeSectors, clusterSectors, type, options.layout === 'preallocated'),
  );
}

/**
 * Makes `directory` (created when missing, otherwise it must be empty) a new volume. root.hds and
 * DiskDescriptor.xml are byte-identical to what `ploop init -t none` writes. After an error nothing is left.
 */
export async function createVolume(directory: string, options: CreateOptions): Promise<void> {
  await using revert = new Revert();
  const made = await mkdir(directory, { mode: 0o700 }).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
      return false;
    },
  );
  if (made) revert.push(() => rmdir(directory));
  if (!made && (await readdir(directory)).length > 0) {
    throw new StowageError('volume-exists', `${directory} exists already and is not empty`);
  }
  const image = join(directory, BASE_IMAGE);
  revert.push(() => removeIfExists(image));
  const delta = await createImage(image, options);
  await delta[Symbol.asyncDispose]();
  await describe(directory, options);
  await syncDirectory(join(directory, '..'));
  revert.commit();
}

/**
 * Writes DiskDescriptor.xml anew from root.hds. An image without the ploop signature is taken as raw only when `raw`
 * says so. Refused with `volume-has-snapshots` where deltas lie beside it: they would be orphaned, their data lost.
 */
export async function restoreDescriptor(
  directory: string,
  options: { raw?: boolean; clusterSectors?: number } = {},
): Promise<void> {
  await using _lock = await lockFile(
    join(directory, `${DESCRIPTOR}.lck`),
    `${directory} is locked by another ploop operation`,
  );
  const orphans = await orphanDeltas(directory, []);
  if (orphans.length > 0) {
    throw new StowageError(
      'volume-has-snapshots',
      `the descriptor is not restored: it would orphan ${orphans.join(', ')}`,
    );
  }
  const path = join(directory, BASE_IMAGE);
  if (!(await exists(path))) throw new StowageError('invalid-image', `${directory} has no ${BASE_IMAGE}`);
  await using file = await openRegular(path, 'r');
  const head = Buffer.alloc(HEADER_BYTES);
  await readFully(file, head, 0);
  if (options.raw) {
    if (hasPloopSignature(head))
      throw new StowageError('invalid-argument', `${path} is a ploop image, not a raw one`);
    const { size } = await file.stat();
    const sectors = size / SECTOR;
    const cluster = options.clusterSectors ?? DEFAULT_CLUSTER_SECTORS;
    if (size === 0 || sectors % cluster !== 0)
      throw new StowageError('invalid-image', `${path}: ${size} bytes are not whole clusters`);
    await writeDescriptor(directory, newDescriptor(sectors, cluster, 'Plain', false));
    return;
  }
  const header = decodeHeader(head, path);
  await writeDescriptor(
    directory,
    newDescriptor(header.sizeSectors, header.clusterSectors, 'Compressed', false),
  );
}
