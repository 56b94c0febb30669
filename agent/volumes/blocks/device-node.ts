import { constants } from 'node:fs';
import { open, readdir, readFile, readlink, realpath } from 'node:fs/promises';
import type { Permissions } from '../../../shared/conf/permissions.ts';
import { writeMark } from '../../host/devices.ts';
import { setPermissions, statIfExists } from '../../host/files.ts';
import { FileImage } from '../../images/file-image.ts';

/** The number of a block device of this host. */
export interface DeviceNumber {
  major: number;
  minor: number;
}

/** undefined while there is no such node. The number of a device has its major part in bits 8 to 19. */
export async function nodeNumber(path: string): Promise<DeviceNumber | undefined> {
  const node = await statIfExists(path);
  if (!node?.isBlockDevice()) return undefined;
  return { major: (node.rdev >> 8) & 0xfff, minor: (node.rdev & 0xff) | ((node.rdev >> 12) & 0xfff00) };
}

/** Whether a process is udev, or a tool that it runs: it looks at a device for a moment whenever somebody has written to it. */
async function isUdev(pid: string): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  if (/^Name:\s*.*udev/m.test(status)) return true;
  const [, parent] = /^PPid:\s*(\d+)$/m.exec(status) ?? [];
  const above = parent === undefined ? '' : await readFile(`/proc/${parent}/comm`, 'utf8').catch(() => '');
  return above.includes('udev');
}

/** Whether another process of this host has a node open, as far as this user may see. */
export async function isNodeOpen(path: string): Promise<boolean> {
  const node = await realpath(path).catch(() => path);
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue;
    // It may have ended, or be somebody else's.
    const fds = await readdir(`/proc/${pid}/fd`).catch(() => []);
    for (const fd of fds) {
      const target = await readlink(`/proc/${pid}/fd/${fd}`).catch(() => undefined);
      if (target === node && !(await isUdev(pid))) return true;
    }
  }
  return false;
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

/** Its mark, once what somebody wrote and the kernel still holds back is on the device. */
export async function settledNodeMark(path: string, number: DeviceNumber): Promise<string | undefined> {
  await using image = await FileImage.open(path, 'read', 'block');
  await image.flush();
  return writeMark(number.major, number.minor);
}

/** Owner, group and mode of a device's node; names of devices are links to nodes. */
export async function setNodePermissions(path: string, permissions: Permissions): Promise<void> {
  await setPermissions(await realpath(path), permissions);
}

/** Whether the kernel itself uses a disk or a partition of it: mounted, swap, LVM, RAID, multipath. */
export async function isHeld(path: string): Promise<boolean> {
  try {
    const file = await open(path, constants.O_RDONLY | constants.O_EXCL | constants.O_NONBLOCK);
    await file.close();
    return false;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EBUSY') return true;
    // It is not there, or has no medium: nobody holds it.
    if (code === 'ENOENT' || code === 'ENXIO' || code === 'ENOMEDIUM') return false;
    throw error;
  }
}
