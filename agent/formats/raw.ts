import { constants } from 'node:fs';
import { link, open } from 'node:fs/promises';
import { StowageError } from '../../shared/util/errors.ts';
import { copyFileFast } from '../host/copy.ts';
import { openRegular, removeIfExists, writeZeros } from '../host/files.ts';
import { preallocate } from '../host/holes.ts';
import { FileSource } from '../transfer/file-source.ts';
import type { FormatDriver } from './format.ts';
import { overwrite } from './wipe.ts';

/** Raw images: the file is what the guest sees. Sparse, or with all blocks reserved. */
export const raw: FormatDriver = {
  name: 'raw',
  isDirectory: false,

  async facts(path) {
    await using file = await openRegular(path, 'r');
    const stat = await file.stat();
    return { capacityBytes: stat.size, allocationBytes: stat.blocks * 512, snapshotCount: 0 };
  },

  async create(path, volume) {
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    await using file = await open(path, flags, 0o600);
    try {
      if (volume.preallocate) {
        if (!preallocate(file, volume.capacityBytes)) await writeZeros(file, 0, volume.capacityBytes);
      } else {
        await file.truncate(volume.capacityBytes);
      }
      await file.sync();
    } catch (error) {
      await removeIfExists(path);
      throw error;
    }
  },

  async resize(path, capacityBytes, shrink) {
    await using file = await openRegular(path, 'r+');
    const { size } = await file.stat();
    if (capacityBytes < size && !shrink) {
      throw new StowageError(
        'shrink-refused',
        `the volume has ${size} bytes; cutting it to ${capacityBytes} needs the shrink flag`,
      );
    }
    await file.truncate(capacityBytes);
    await file.sync();
  },

  async clone(source, target, signal) {
    await copyFileFast(source, target, { signal }).catch(async (error) => {
      if (error.code !== 'EEXIST') await removeIfExists(target);
      throw error;
    });
  },

  wipe: (path, algorithm, signal) => overwrite(path, algorithm, signal),

  async imageParts(path) {
    const { capacityBytes } = await raw.facts(path);
    return [{ name: '', sizeBytes: capacityBytes, dense: false }];
  },

  inspect() {
    // Any bytes are a raw image. Its format is on record, so a header that a guest wrote is never believed.
  },

  async adopt() {},

  openContent: (path) => FileSource.open(path),

  async fromContent(content, path, volume) {
    await using file = await openRegular(content, 'r+');
    const { size } = await file.stat();
    if (size < volume.capacityBytes) await file.truncate(volume.capacityBytes);
    await file.sync();
    await link(content, path);
  },
};
