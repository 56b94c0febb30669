import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { StowageError } from '../../../shared/util/errors.ts';
import { allocatedBytes } from '../../host/files.ts';
import { chainOf, DESCRIPTOR, NO_GUID } from './descriptor.ts';
import { type PloopHeader, SECTOR } from './header.ts';
import { headerAt } from './image.ts';
import { readDescriptor } from './volume.ts';

export interface SnapshotInfo {
  guid: string;
  /** undefined for the one that stands on nothing. */
  parentGuid: string | undefined;
  /** The delta that new writes go to. */
  current: boolean;
  temporary: boolean;
  file: string;
  /** Bytes that this delta alone takes on disk. */
  allocationBytes: number;
}

export interface PloopInfo {
  /** What the guest sees, from the header of the top delta: the base is stale after growth over a snapshot. */
  capacityBytes: number;
  /** What all files of the volume take on disk. */
  allocationBytes: number;
  /** 0 for a raw top. */
  version: 0 | 1 | 2;
  layout: 'expanded' | 'preallocated' | 'raw';
  clusterBytes: number;
  inUse: boolean;
  snapshots: SnapshotInfo[];
}

/** Reads a volume's facts from headers alone, whatever its size; changes nothing and takes no lock. */
export async function volumeInfo(directory: string): Promise<PloopInfo> {
  const descriptor = await readDescriptor(directory);
  const clusterBytes = descriptor.blocksizeSectors * SECTOR;
  // Of the whole chain, so that a delta that is missing or damaged is known.
  let header: PloopHeader | undefined;
  const chain = chainOf(descriptor, descriptor.topGuid);
  for (const { type, file } of chain) {
    header = type === 'Compressed' ? await headerAt(join(directory, file)) : undefined;
    if (header && header.clusterSectors !== descriptor.blocksizeSectors)
      throw new StowageError(
        'invalid-image',
        `${file}: its clusters are not of the size that the descriptor says`,
      );
  }
  const top = join(directory, chain.at(-1)!.file);
  const snapshots: SnapshotInfo[] = [];
  for (const shot of descriptor.shots) {
    const image = descriptor.images.find((candidate) => candidate.guid === shot.guid)!;
    snapshots.push({
      guid: shot.guid,
      parentGuid: shot.parentGuid === NO_GUID ? undefined : shot.parentGuid,
      current: shot.guid === descriptor.topGuid,
      temporary: shot.temporary,
      file: image.file,
      allocationBytes: (await lstat(join(directory, image.file))).blocks * 512,
    });
  }
  return {
    capacityBytes: header ? header.sizeSectors * SECTOR : (await lstat(top)).size,
    // With the slash it is the directory even where the path is a descriptor link.
    allocationBytes: await allocatedBytes(`${directory}/`),
    version: header?.version ?? 0,
    layout: header ? (descriptor.preallocated ? 'preallocated' : 'expanded') : 'raw',
    clusterBytes,
    inUse: Boolean(header?.inUse),
    snapshots,
  };
}

/** Every file that belongs to the volume, descriptor first; locks, mount points and strangers are not among them. */
export async function volumeFiles(directory: string): Promise<string[]> {
  return [DESCRIPTOR, ...(await readDescriptor(directory)).images.map((image) => image.file)];
}
