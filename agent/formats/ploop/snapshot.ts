import { join } from 'node:path';
import { clock } from '../../../shared/util/clock.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { readFully } from '../../host/files.ts';
import {
  BASE_IMAGE,
  chainOf,
  childrenOf,
  type Descriptor,
  type DescriptorImage,
  MAX_DELTAS,
  NO_GUID,
  TOP_GUID,
} from './descriptor.ts';
import { SECTOR } from './header.ts';
import { createExpanded, type Delta, ExpandedDelta, openDelta } from './image.ts';
import { deleteSnapshotMounted, mountedDevice, snapshotMounted } from './mounted.ts';
import { changeVolume, type LockedVolume, readDescriptor } from './volume.ts';

const braced = (uuid: string): string => `{${uuid}}`;
const GUID = /^\{?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\}?$/i;

/** Accepts a GUID with or without braces; gives it as the descriptor writes it. */
export function normaliseGuid(text: string): string {
  const match = GUID.exec(text);
  if (!match?.[1])
    throw new StowageError('invalid-argument', `'${text.slice(0, 60)}' is not a snapshot GUID`);
  return braced(match[1].toLowerCase());
}

function findSnapshot(descriptor: Descriptor, guid: string): Descriptor['shots'][number] {
  const shot = descriptor.shots.find((candidate) => candidate.guid === guid);
  if (!shot) throw new StowageError('snapshot-not-found', `the volume has no snapshot ${guid}`);
  return shot;
}

/** Throws `snapshot-not-found` for one that was deleted: its file may be half merged. */
function refuseTemporary({ guid, temporary }: Descriptor['shots'][number]): void {
  if (!temporary) return;
  throw new StowageError(
    'snapshot-not-found',
    `the snapshot ${guid} was deleted and is kept only for what stands on it`,
  );
}

/** The images that a snapshot is read from, the base first. Throws `snapshot-not-found`, also for what is no snapshot yet. */
export async function snapshotChain(directory: string, guid: string): Promise<DescriptorImage[]> {
  const descriptor = await readDescriptor(directory);
  refuseTemporary(findSnapshot(descriptor, guid));
  if (guid === descriptor.topGuid)
    throw new StowageError('snapshot-not-found', `${guid} is the present state of the volume`);
  return chainOf(descriptor, guid);
}

const fileOf = (descriptor: Descriptor, guid: string): string =>
  descriptor.images.find((image) => image.guid === guid)!.file;

/** An empty top delta of the same shape as the chain below it. */
async function newTop(volume: LockedVolume, below: Delta, file: string): Promise<void> {
  const version = below instanceof ExpandedDelta ? below.header.version : 2;
  const path = join(volume.directory, file);
  const delta = await createExpanded(path, {
    version,
    sizeBytes: below.sizeBytes,
    clusterSectors: volume.descriptor.blocksizeSectors,
  });
  await delta[Symbol.asyncDispose]();
}

/**
 * Freezes the present content as a snapshot and puts an empty delta on top. Gives the snapshot's GUID.
 * Throws `snapshot-exists` for a GUID in use, `not-supported` above 126 deltas.
 */
export async function createSnapshot(directory: string, guid = braced(clock.uuid())): Promise<string> {
  if (guid === TOP_GUID || guid === NO_GUID)
    throw new StowageError('invalid-argument', `the GUID ${guid} is reserved`);
  if (await mountedDevice(directory, await readDescriptor(directory))) {
    await snapshotMounted(directory, guid);
    return guid;
  }
  await changeVolume(directory, async (volume) => {
    const { descriptor } = volume;
    if (descriptor.shots.some((shot) => shot.guid === guid))
      throw new StowageError('snapshot-exists', `the snapshot ${guid} exists already`);
    if (descriptor.images.length > MAX_DELTAS)
      throw new StowageError('not-supported', `a ploop volume cannot have more than ${MAX_DELTAS} snapshots`);
    const file = `${BASE_IMAGE}.${braced(clock.uuid())}`;
    await using chain = await volume.openChain();
    await volume.intend({ files: [file] });
    await newTop(volume, chain.top, file);
    const rename = (value: string): string => (value === descriptor.topGuid ? guid : value);
    await volume.commit({
      ...descriptor,
      topGuid: TOP_GUID,
      images: [
        ...descriptor.images.map((image) => ({ ...image, guid: rename(image.guid) })),
        { guid: TOP_GUID, type: 'Compressed', file },
      ],
      shots: [
        ...descriptor.shots.map((shot) => ({ ...shot, guid: rename(shot.guid) })),
        { guid: TOP_GUID, parentGuid: guid, temporary: false },
      ],
    });
  });
  return guid;
}

/** Throws the present content away and continues, in a new empty delta, from a snapshot. Other branches stay. */
export async function switchSnapshot(directory: string, guid: string): Promise<void> {
  await changeVolume(directory, async (volume) => {
    const { descriptor } = volume;
    refuseTemporary(findSnapshot(descriptor, guid));
    if (guid === descriptor.topGuid)
      throw new StowageError('invalid-argument', `${guid} is the current state, not a snapshot`);
    const file = `${BASE_IMAGE}.${braced(clock.uuid())}`;
    const oldTop = fileOf(descriptor, descriptor.topGuid);
    await using chain = await volume.openChain(guid);
    await volume.intend({ files: [file, oldTop] });
    await newTop(volume, chain.top, file);
    const without = <T extends { guid: string }>(list: T[]): T[] =>
      list.filter((item) => item.guid !== descriptor.topGuid);
    const sizeSectors = chain.top.sizeBytes / SECTOR;
    await volume.commit(
      {
        ...descriptor,
        sizeSectors,
        topGuid: TOP_GUID,
        images: [...without(descriptor.images), { guid: TOP_GUID, type: 'Compressed', file }],
        shots: [...without(descriptor.shots), { guid: TOP_GUID, parentGuid: guid, temporary: false }],
      },
      [oldTop],
    );
  });
}

/** Copies every cluster of `child` over `parent`. Repeatable: a second run after a kill gives the same image. */
async function mergeInto(child: Delta, parent: Delta, signal?: AbortSignal): Promise<void> {
  if (parent.sizeBytes < child.sizeBytes) await parent.grow(child.sizeBytes);
  await parent.begin();
  const buffer = Buffer.alloc(child.clusterBytes);
  const clusters = Math.ceil(child.sizeBytes / child.clusterBytes);
  for (let index = 0; index < clusters; index++) {
    const offset = child.clusterOffset(index);
    if (offset === undefined) continue;
    signal?.throwIfAborted();
    await readFully(child.file, buffer, offset);
    await parent.writeCluster(index, buffer);
  }
  await parent.commit();
}

/**
 * Deletes a snapshot by merging its only child into its file, as the ploop tool does: the child keeps its GUID, the
 * snapshot its file. A leaf that is not the current state just goes. With several children it is marked temporary.
 */
export async function deleteSnapshot(
  directory: string,
  guid: string,
  signal?: AbortSignal,
): Promise<'deleted' | 'temporary'> {
  if (await mountedDevice(directory, await readDescriptor(directory))) {
    await deleteSnapshotMounted(directory, guid);
    return 'deleted';
  }
  return changeVolume(directory, async (volume) => {
    const { descriptor } = volume;
    const shot = findSnapshot(descriptor, guid);
    const children = childrenOf(descriptor, guid);
    if (guid === descriptor.topGuid)
      throw new StowageError(
        'invalid-argument',
        'the current state is not a snapshot and cannot be deleted as one',
      );
    if (children.length > 1) {
      await volume.commit(marked(descriptor, guid));
      return 'temporary';
    }
    const child = children[0];
    if (!child) {
      const file = fileOf(descriptor, guid);
      await volume.intend({ files: [file] });
      await volume.commit(
        {
          ...descriptor,
          images: descriptor.images.filter((image) => image.guid !== guid),
          shots: descriptor.shots.filter((item) => item !== shot),
        },
        [file],
      );
      return 'deleted';
    }
    // While its file is being merged into, the snapshot is neither what it was nor gone: it can only be deleted.
    await volume.commit(marked(descriptor, guid));
    const parentFile = fileOf(descriptor, guid);
    const childFile = fileOf(descriptor, child.guid);
    await volume.intend({ files: [childFile], marked: [parentFile] });
    await mergeFiles(volume, child.guid, guid, signal);
    await volume.commit(mergedDescriptor(descriptor, child.guid, guid), [childFile]);
    return 'deleted';
  });
}

/** The descriptor with a snapshot marked as temporary: deleted by its owner, kept for what stands on it. */
function marked(descriptor: Descriptor, guid: string): Descriptor {
  return {
    ...descriptor,
    shots: descriptor.shots.map((shot) => (shot.guid === guid ? { ...shot, temporary: true } : shot)),
  };
}

async function mergeFiles(
  volume: LockedVolume,
  childGuid: string,
  parentGuid: string,
  signal?: AbortSignal,
): Promise<void> {
  const clusterBytes = volume.descriptor.blocksizeSectors * SECTOR;
  const image = (guid: string) => volume.descriptor.images.find((candidate) => candidate.guid === guid)!;
  await using child = await openDelta(volume.directory, image(childGuid), clusterBytes, 'r');
  await using parent = await openDelta(volume.directory, image(parentGuid), clusterBytes, 'r+');
  await mergeInto(child, parent, signal);
}

/** The descriptor after `child` was merged into the file of `parent`. */
function mergedDescriptor(descriptor: Descriptor, childGuid: string, parentGuid: string): Descriptor {
  const grandparent = findSnapshot(descriptor, parentGuid).parentGuid;
  const child = findSnapshot(descriptor, childGuid);
  return {
    ...descriptor,
    images: descriptor.images
      .filter((image) => image.guid !== childGuid)
      .map((image) => (image.guid === parentGuid ? { ...image, guid: childGuid } : image)),
    shots: descriptor.shots
      .filter((shot) => shot !== child)
      .map((shot) => (shot.guid === parentGuid ? { ...child, parentGuid: grandparent } : shot)),
  };
}

/** Merges the current state into the snapshot it stands on. Throws `snapshot-not-found` when it stands on none. */
export async function mergeTop(directory: string, signal?: AbortSignal): Promise<void> {
  const descriptor = await readDescriptor(directory);
  const parent = findSnapshot(descriptor, descriptor.topGuid).parentGuid;
  if (parent === NO_GUID)
    throw new StowageError('snapshot-not-found', 'the volume has no snapshot to merge into');
  if (childrenOf(descriptor, parent).length > 1) {
    throw new StowageError('volume-has-snapshots', `another branch stands on ${parent}; delete it first`);
  }
  await deleteSnapshot(directory, parent, signal);
}

/** Merges the whole chain, base first, until one image is left. Refused when branches stand beside the chain. */
export async function flatten(directory: string, signal?: AbortSignal): Promise<void> {
  for (;;) {
    const descriptor = await readDescriptor(directory);
    const chain = chainOf(descriptor, descriptor.topGuid);
    if (chain.length !== descriptor.images.length) {
      throw new StowageError(
        'volume-has-snapshots',
        'the volume has branches beside its current state; delete them first',
      );
    }
    if (chain.length === 1) return;
    await deleteSnapshot(directory, chain[0]!.guid, signal);
  }
}
