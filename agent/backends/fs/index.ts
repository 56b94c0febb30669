import { startCommand } from '../../../shared/conf/pool-start.ts';
import { POOL_TYPES } from '../../../shared/conf/pool-types.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { refuseUsedDevice } from '../../host/devices.ts';
import { runOk } from '../../host/run.ts';
import { refuseSourceBut, targetOf } from '../../volumes/definition.ts';
import { FilePool } from '../../volumes/files/file-pool.ts';
import { mountedDirectory } from '../../volumes/files/mounted-directory.ts';
import { FILE_TRAITS } from '../../volumes/files/traits.ts';
import { type Backend, CONTRACT_VERSION } from '../backend.ts';
import { missingHelper, missingTool } from '../missing.ts';

/** How each tool is told to make a file system where something is already. */
const FORCE: Record<string, string[]> = {
  ext2: ['-F', '-q'],
  ext3: ['-F', '-q'],
  ext4: ['-F', '-q'],
  xfs: ['-f', '-q'],
  btrfs: ['-f', '-q'],
};

/** Makes a file system on a device. Without `overwrite` only where nothing is. */
async function makeFileSystem(format: string, device: string, overwrite: boolean): Promise<void> {
  if (format === 'auto')
    throw new StowageError('invalid-argument', 'which file system is to be made? Give the source a format');
  if (!overwrite) await refuseUsedDevice(device);
  await runOk(`mkfs.${format}`, [...(FORCE[format] ?? []), device]);
}

/** A file system on a device of the host, mounted while the pool is started. */
export const fsBackend: Backend = {
  type: 'fs',
  contract: CONTRACT_VERSION,
  traits: { ...FILE_TRAITS, options: ['mountOptions'] },

  check(definition) {
    targetOf(definition);
    refuseSourceBut(definition, ['devices', 'format']);
    const { devices, format = 'auto' } = definition.source;
    if (devices.length !== 1)
      throw new StowageError('invalid-argument', "a pool of type 'fs' has one source device");
    const { formats, ownFormats } = POOL_TYPES.fs;
    if (![...formats, ...ownFormats].some((known) => known === format))
      throw new StowageError('invalid-argument', `unknown pool format type ${format}`);
  },

  devices: {
    builds: ['disk', 'partition', 'multipath', 'volume', 'loop'],
    // What is a part of something else, or needs a key, is no file system.
    uses: ({ fstype }) => fstype !== undefined && !/_member$|^(swap|crypto_LUKS|drbd|bcache)/.test(fstype),
  },

  probe: () => missingTool('mount', 'mount'),

  lacks: () =>
    Promise.all([
      missingHelper('mkfs.ext4', 'e2fsprogs'),
      missingHelper('mkfs.xfs', 'xfsprogs'),
      missingHelper('mkfs.btrfs', 'btrfs-progs'),
    ]),

  open(definition, host) {
    const { source, target, mountOptions } = definition;
    const path = targetOf(definition);
    const [device] = source.devices;
    const storage = mountedDirectory({
      path,
      source: device!.path,
      command: startCommand({ ...definition, type: 'fs', mountOptions }, 'linux'),
      permissions: target.permissions,
      local: true,
      knownBy: 'inode',
      format: (overwrite) => makeFileSystem(source.format ?? 'auto', device!.path, overwrite),
    });
    return new FilePool(storage, host);
  },
};
