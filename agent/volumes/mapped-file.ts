import type { MappedVolume } from '../../shared/conf/volume.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { attachLoop, detachLoop, loopDevicesOf } from '../host/loop-devices.ts';
import { mountPointOf } from '../host/mounts.ts';
import { isHeld } from './blocks/device-node.ts';

/** The node of a loop device that stands on a file or a part of it, whoever has made it; undefined: there is none. */
export async function mappedAs(path: string): Promise<string | undefined> {
  const [device] = await loopDevicesOf(path);
  return device?.path;
}

/**
 * Makes a loop device of the file of a volume; that of a base takes no write. `isSame` tells afterwards whether the path still is that of
 * the volume. Throws `volume-changed` where it is not, and `volume-in-use` for a base that has a loop device which takes writes.
 */
export async function mapFile(
  path: string,
  { name, isBase }: { name: string; isBase: boolean },
  isSame: () => Promise<boolean>,
): Promise<MappedVolume> {
  const before = await mappedAs(path);
  const device = await attachLoop(path, isBase);
  try {
    const mapped = (await loopDevicesOf(path)).find((each) => each.path === device);
    if (!mapped || !(await isSame()))
      throw new StowageError('volume-changed', `another volume is called '${name}' by now`);
    if (isBase && !mapped.isReadOnly)
      throw new StowageError(
        'volume-in-use',
        `the base '${name}' is mapped as ${device}, which takes writes`,
      );
    return { device, isReadOnly: mapped.isReadOnly };
  } catch (error) {
    if (device !== before) await detachLoop(device);
    throw error;
  }
}

/** Takes away each loop device that stands on a file or on a part of it, and gives their nodes. Throws `volume-in-use` while one is open. */
export async function unmapFile(path: string): Promise<string[]> {
  const devices = (await loopDevicesOf(path)).map((each) => each.path);
  // One that is mounted would go as soon as it is not any more, without being asked again.
  for (const device of devices)
    if (await isHeld(device)) {
      const mountPoint = mountPointOf(device);
      throw new StowageError(
        'volume-in-use',
        `${device} is ${mountPoint === undefined ? 'open, such as by LVM or a mount of another namespace' : `mounted at ${mountPoint}: umount it first`}`,
      );
    }
  for (const device of devices) await detachLoop(device);
  return devices;
}
