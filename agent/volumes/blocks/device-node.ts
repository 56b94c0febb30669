import { realpath } from 'node:fs/promises';
import type { Permissions } from '../../../shared/conf/permissions.ts';
import { writeMark } from '../../host/devices.ts';
import { setPermissions, statIfExists } from '../../host/files.ts';
import { FileImage } from '../../images/file-image.ts';

/** The number of a block device of this host. */
interface DeviceNumber {
  major: number;
  minor: number;
}

/** What the node of a device tells: nothing for one that is not active. */
export async function nodeFacts(
  path: string,
  number: DeviceNumber | undefined,
): Promise<{ mark?: string; permissions?: Permissions }> {
  if (!number) return {};
  const [mark, node] = await Promise.all([writeMark(number.major, number.minor), statIfExists(path)]);
  const permissions = node && { mode: node.mode & 0o777, owner: node.uid, group: node.gid };
  return { mark, permissions };
}

/** What somebody wrote and the kernel still holds back is on the device afterwards, and counted in its mark. */
export async function settleNode(path: string): Promise<void> {
  await using image = await FileImage.open(path, 'read', 'block');
  await image.flush();
}

/** Owner, group and mode of a device's node; names of devices are links to nodes. */
export async function setNodePermissions(path: string, permissions: Permissions): Promise<void> {
  await setPermissions(await realpath(path), permissions);
}
