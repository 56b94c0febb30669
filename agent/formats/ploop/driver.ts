import { lstat, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { NewVolume } from '../../../shared/conf/volume.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { removeIfExists } from '../../host/files.ts';
import { FileSource } from '../../transfer/file-source.ts';
import type { FormatDriver } from '../format.ts';
import { checkVolume } from './check.ts';
import { cloneVolume } from './clone.ts';
import { PloopContent, writeContent } from './content.ts';
import { type CreateOptions, createImage, createVolume, describe, restoreDescriptor } from './create.ts';
import { BASE_IMAGE, DESCRIPTOR } from './descriptor.ts';
import { growVolume } from './grow.ts';
import { decodeHeader, hasPloopSignature } from './header.ts';
import { volumeFiles, volumeInfo } from './info.ts';
import { mountedDevice } from './mounted.ts';
import { createSnapshot, deleteSnapshot, normaliseGuid, switchSnapshot } from './snapshot.ts';
import { readDescriptor, refuseInUse, settleLeftovers } from './volume.ts';
import { wipeVolume } from './wipe.ts';

function createOptions(volume: NewVolume): CreateOptions {
  const { version, layout, clusterBytes } = volume.ploop ?? {};
  return {
    capacityBytes: volume.capacityBytes,
    version,
    layout: layout ?? (volume.preallocate ? 'preallocated' : 'expanded'),
    clusterSectors: clusterBytes === undefined ? undefined : clusterBytes / 512,
  };
}

/** ploop volumes by our own engine. The first part of a transfer is the descriptor when there are snapshots. */
export const ploop: FormatDriver = {
  name: 'ploop',
  isDirectory: true,

  async facts(path) {
    const info = await volumeInfo(path);
    return {
      capacityBytes: info.capacityBytes,
      allocationBytes: info.allocationBytes,
      snapshotCount: info.snapshots.length - 1,
    };
  },

  create: (path, volume) => createVolume(path, createOptions(volume)),

  resize: (path, capacityBytes) => growVolume(path, capacityBytes),

  async clone(source, target, signal) {
    await cloneVolume(source, target, signal);
  },

  wipe: wipeVolume,

  async imageParts(path) {
    await settleLeftovers(path);
    await refuseInUse(path, await readDescriptor(path));
    const files = await volumeFiles(path);
    const parts = files.map(async (name) => {
      const stat = await lstat(join(path, name));
      return { name, sizeBytes: stat.size, dense: name !== DESCRIPTOR };
    });
    return Promise.all(parts);
  },

  async refuseMounted(path) {
    const device = await readDescriptor(path).then(
      (descriptor) => mountedDevice(path, descriptor),
      () => undefined, // without a descriptor nothing can be mounted
    );
    if (device) throw new StowageError('volume-mounted', `the volume is mounted as ${device}`);
  },

  inspect(head, part, parts) {
    if (part.name === DESCRIPTOR) return;
    // A raw base image has no header; it is only believed together with a descriptor that says so.
    const described = parts.some((other) => other.name === DESCRIPTOR);
    if (!described || hasPloopSignature(head)) {
      const header = decodeHeader(head, part.name);
      if (header.inUse)
        throw new StowageError(
          'invalid-image',
          `${part.name} is marked as in use: it was copied while mounted`,
        );
    }
  },

  async adopt(path) {
    const described = await lstat(join(path, DESCRIPTOR)).then(
      () => true,
      () => false,
    );
    if (!described) await restoreDescriptor(path);
    await removeIfExists(join(path, `${DESCRIPTOR}.lck`));
    const fatal = (await checkVolume(path, { repair: false })).find(
      (finding) => finding.fatal && finding.problem !== 'holes',
    );
    if (fatal)
      throw new StowageError('invalid-image', `${fatal.file} is not a sound ploop image: ${fatal.detail}`);
    await checkVolume(path, { repair: true });
  },

  async openContent(path) {
    await settleLeftovers(path);
    await refuseInUse(path, await readDescriptor(path));
    return PloopContent.open(path);
  },

  async fromContent(content, path, volume, signal) {
    await mkdir(path, { mode: 0o700 });
    const source = await FileSource.open(content);
    try {
      const options = createOptions({
        ...volume,
        capacityBytes: Math.max(volume.capacityBytes, source.sizeBytes),
      });
      await using delta = await createImage(join(path, BASE_IMAGE), options);
      await writeContent(source, delta, signal);
      await describe(path, options);
    } finally {
      await source.close();
    }
  },

  snapshots: {
    async list(path) {
      const { snapshots } = await volumeInfo(path);
      return snapshots.map(({ guid, parentGuid, current, allocationBytes }) => ({
        id: guid,
        parentId: parentGuid,
        current,
        allocationBytes,
      }));
    },
    create: (path, id) => createSnapshot(path, id === undefined ? undefined : normaliseGuid(id)),
    switch: (path, id) => switchSnapshot(path, normaliseGuid(id)),
    async delete(path, id, signal) {
      await deleteSnapshot(path, normaliseGuid(id), signal);
    },
  },
};
