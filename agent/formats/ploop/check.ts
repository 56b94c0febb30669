import { join } from 'node:path';
import { StowageError } from '../../../shared/util/errors.ts';
import { openRegular, readFully, writeFully } from '../../host/files.ts';
import { hasHoles } from '../../host/holes.ts';
import { lockFile } from '../../host/lock.ts';
import { DESCRIPTOR, type DescriptorImage } from './descriptor.ts';
import { FLAG_EMPTY } from './header.ts';
import { type ExpandedDelta, openExpanded } from './image.ts';
import { mountedDevice } from './mounted.ts';
import { orphanDeltas, readDescriptor } from './volume.ts';

export interface PloopFinding {
  file: string;
  /** Stable name of what is wrong. */
  problem:
    | 'in-use'
    | 'empty-flag'
    | 'beyond-end'
    | 'misaligned'
    | 'in-header'
    | 'duplicate'
    | 'trailing-bytes'
    | 'holes'
    | 'size'
    | 'orphan'
    | 'unreadable';
  detail: string;
  /** Without repair the volume cannot be used safely. */
  fatal: boolean;
  repaired: boolean;
}

interface Entry {
  index: number;
  cluster: number;
}

/** Entries sorted into sound ones and each kind of broken ones. */
function sortEntries(
  delta: ExpandedDelta,
  fileClusters: number,
): Record<'sound' | 'beyond-end' | 'misaligned' | 'in-header' | 'duplicate', Entry[]> {
  const sorted = {
    sound: [],
    'beyond-end': [],
    misaligned: [],
    'in-header': [],
    duplicate: [],
  } as ReturnType<typeof sortEntries>;
  const first = delta.header.firstBlockSectors / delta.header.clusterSectors;
  const used = new Uint8Array(fileClusters);
  delta.bat.forEach((value, index) => {
    if (value === 0) return;
    const cluster = value / delta.entryUnit;
    const entry = { index, cluster };
    if (!Number.isInteger(cluster)) sorted.misaligned.push(entry);
    else if (cluster < first) sorted['in-header'].push(entry);
    else if (cluster >= fileClusters) sorted['beyond-end'].push(entry);
    else if (used[cluster]) sorted.duplicate.push(entry);
    else {
      used[cluster] = 1;
      sorted.sound.push(entry);
    }
  });
  return sorted;
}

/** Gives the second user of a cluster a copy of its own: both then read what both read before. */
async function separate(delta: ExpandedDelta, entries: Entry[]): Promise<void> {
  const buffer = Buffer.alloc(delta.clusterBytes);
  for (const { index, cluster } of entries) {
    await readFully(delta.file, buffer, cluster * delta.clusterBytes);
    delta.setEntry(index, 0);
    await delta.writeCluster(index, buffer);
  }
}

/** Rewrites the file's own bytes where it has holes, so that every block is really there. */
async function fillHoles(path: string): Promise<void> {
  await using file = await openRegular(path, 'r+');
  const { size } = await file.stat();
  const buffer = Buffer.alloc(1 << 20);
  for (let offset = 0; offset < size; offset += buffer.length) {
    const part = buffer.subarray(0, Math.min(buffer.length, size - offset));
    await readFully(file, part, offset);
    await writeFully(file, part, offset);
  }
  await file.sync();
}

async function checkImage(
  directory: string,
  image: DescriptorImage,
  isTop: boolean,
  descriptorSectors: number,
  repair: boolean,
): Promise<PloopFinding[]> {
  const findings: PloopFinding[] = [];
  const path = join(directory, image.file);
  const found = (
    problem: PloopFinding['problem'],
    detail: string,
    fatal: boolean,
    repaired = repair,
  ): void => {
    findings.push({ file: image.file, problem, detail, fatal, repaired });
  };
  const plain = await openRegular(path, 'r');
  const { size } = await plain.stat();
  if (hasHoles(plain, size)) {
    found('holes', 'the file has holes, which the ploop kernel module refuses', true);
    if (repair) await fillHoles(path);
  }
  await plain.close();
  if (image.type === 'Plain') return findings;

  await using delta = await openExpanded(path, repair ? 'r+' : 'r');
  const { header, clusterBytes } = delta;
  const sorted = sortEntries(delta, Math.floor(size / clusterBytes));
  const lost = [...sorted['beyond-end'], ...sorted.misaligned, ...sorted['in-header']];
  for (const problem of ['beyond-end', 'misaligned', 'in-header', 'duplicate'] as const) {
    for (const { index, cluster } of sorted[problem])
      found(problem, `table entry ${index} points at cluster ${cluster}`, true);
  }
  if (header.inUse) found('in-use', 'the image was not closed cleanly, or is mounted elsewhere', true);
  const empty = delta.bat.every((entry) => entry === 0);
  if (!empty && header.flags & FLAG_EMPTY)
    found('empty-flag', 'the image says that it is empty but holds data', false);
  if (isTop && header.sizeSectors !== descriptorSectors) {
    found(
      'size',
      `the descriptor says ${descriptorSectors} sectors, the image ${header.sizeSectors}`,
      false,
      false,
    );
  }
  const lastCluster = sorted.sound.reduce(
    (last, { cluster }) => Math.max(last, cluster),
    header.firstBlockSectors / header.clusterSectors - 1,
  );
  const soundEnd = (lastCluster + 1) * clusterBytes;
  const trailing = size > soundEnd && sorted.duplicate.length === 0 && lost.length === 0;
  if (trailing) found('trailing-bytes', `${size - soundEnd} bytes after the last cluster`, false);
  if (!repair || findings.length === 0) return findings;

  await delta.begin();
  for (const { index } of lost) delta.setEntry(index, 0);
  await separate(delta, sorted.duplicate);
  if (trailing) await delta.file.truncate(soundEnd);
  await delta.commit();
  return findings;
}

/**
 * Checks every image of a volume. With `repair`, mends what can be mended: entries that point nowhere become empty
 * (their data was lost before), shared clusters are separated, holes filled, trailing bytes cut, the marks corrected.
 * Orphaned deltas are named, never deleted. A volume the kernel has mounted is refused.
 */
export async function checkVolume(directory: string, options: { repair: boolean }): Promise<PloopFinding[]> {
  await using _lock = options.repair
    ? await lockFile(
        join(directory, `${DESCRIPTOR}.lck`),
        `${directory} is locked by another ploop operation`,
      )
    : undefined;
  const descriptor = await readDescriptor(directory);
  const device = await mountedDevice(directory, descriptor);
  if (device && options.repair)
    throw new StowageError('volume-mounted', `the volume is mounted as ${device} and cannot be repaired now`);
  const findings: PloopFinding[] = [];
  for (const image of descriptor.images) {
    const isTop = image.guid === descriptor.topGuid;
    findings.push(...(await checkImage(directory, image, isTop, descriptor.sizeSectors, options.repair)));
  }
  for (const file of await orphanDeltas(
    directory,
    descriptor.images.map((image) => image.file),
  )) {
    findings.push({
      file,
      problem: 'orphan',
      detail: 'no descriptor entry names this delta',
      fatal: false,
      repaired: false,
    });
  }
  return findings;
}
