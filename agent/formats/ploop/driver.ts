import { lstat, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Finding, NewVolume } from '../../../shared/conf/volume.ts';
import type { Part } from '../../../shared/transfer/chunks.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { exists, removeIfExists } from '../../host/files.ts';
import type { DirectoryFormat } from '../format.ts';
import { checkVolume, type PloopFinding } from './check.ts';
import { cloneVolume } from './clone.ts';
import { PloopContent, writeContent } from './content.ts';
import { type CreateOptions, createImage, createVolume, describe, restoreDescriptor } from './create.ts';
import { BASE_IMAGE, DESCRIPTOR } from './descriptor.ts';
import { growVolume } from './grow.ts';
import { decodeHeader, hasPloopSignature } from './header.ts';
import { volumeFiles, volumeInfo } from './info.ts';
import { mountedDevice } from './mounted.ts';
import { createSnapshot, deleteSnapshot, normaliseGuid, snapshotChain, switchSnapshot } from './snapshot.ts';
import { finishReplacement, readDescriptor, refuseInUse, refuseMarked, settleLeftovers } from './volume.ts';
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

/** What each finding of a check has done about it. */
const REPAIRS: Partial<Record<PloopFinding['problem'], string>> = {
  'in-use': 'clear the mark',
  'empty-flag': 'clear the flag',
  'beyond-end': 'empty the entry: its data is lost already',
  misaligned: 'empty the entry: its data is lost already',
  'in-header': 'empty the entry: its data is lost already',
  duplicate: 'give each its own copy',
  'trailing-bytes': 'cut them off',
  holes: 'write the zeros out',
};

async function hasDescriptor(path: string): Promise<boolean> {
  return exists(join(path, DESCRIPTOR));
}

/** ploop volumes by our own engine. The first part of a transfer is the descriptor when there are snapshots. */
export const ploop: DirectoryFormat = {
  name: 'ploop',

  async facts(path) {
    // Somebody at work finishes it, and where nothing can be written the image is as it is.
    await finishReplacement(path).catch(() => undefined);
    const info = await volumeInfo(path);
    return { capacityBytes: info.capacityBytes, snapshotCount: info.snapshots.length - 1 };
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
    const parts: Part[] = [];
    for (const name of await volumeFiles(path)) {
      const { size: sizeBytes } = await lstat(join(path, name));
      parts.push({ name, sizeBytes, dense: name !== DESCRIPTOR });
    }
    return parts;
  },

  async refuseMounted(path) {
    // Without a descriptor nothing can be mounted.
    if (!(await hasDescriptor(path))) return;
    const device = await mountedDevice(path, await readDescriptor(path));
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
    if (!(await hasDescriptor(path))) await restoreDescriptor(path);
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
    const options = createOptions({
      ...volume,
      capacityBytes: Math.max(volume.capacityBytes, content.sizeBytes),
    });
    await using delta = await createImage(join(path, BASE_IMAGE), options);
    await writeContent(content, delta, signal);
    await describe(path, options);
  },

  async check(path, repair) {
    const findings: Finding[] = [];
    if (!(await hasDescriptor(path))) {
      findings.push({
        problem: 'no-descriptor',
        detail: `the volume has no ${DESCRIPTOR}`,
        fatal: true,
        repair: 'write it anew from the image',
      });
      // Throws where that would orphan deltas.
      if (repair) await restoreDescriptor(path);
      else return findings;
    }
    for (const { file, problem, detail, fatal } of await checkVolume(path, { repair }))
      findings.push({ problem, detail: `${file}: ${detail}`, fatal, repair: REPAIRS[problem] });
    return findings;
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
    async markOf(path, id) {
      // The id is the caller's, and a merge keeps the file of what it merges into.
      const states = (await snapshotChain(path, normaliseGuid(id))).map(async ({ file }) => {
        const { ino, size, mtimeNs } = await lstat(join(path, file), { bigint: true });
        return `${file}.${ino}.${size}.${mtimeNs}`;
      });
      return (await Promise.all(states)).join('/');
    },
    async openContent(path, id) {
      await settleLeftovers(path);
      const guid = normaliseGuid(id);
      await refuseMarked(path, await snapshotChain(path, guid));
      return PloopContent.open(path, guid);
    },
  },
};
