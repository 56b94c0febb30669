import { constants } from 'node:fs';
import { open, readdir, readFile, readlink, realpath, stat } from 'node:fs/promises';
import pLimit from 'p-limit';
import type { Permissions } from '../../../shared/conf/permissions.ts';
import { sleep } from '../../../shared/util/clock.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { type DeviceNumber, numberOf, writeMark } from '../../host/devices.ts';
import { setPermissions, statIfExists } from '../../host/files.ts';
import { FileImage } from '../../images/file-image.ts';

/** undefined while there is no such node. */
export async function nodeNumber(path: string): Promise<DeviceNumber | undefined> {
  const node = await statIfExists(path);
  if (!node?.isBlockDevice()) return undefined;
  return numberOf(node.rdev);
}

/** Whether a process is udev, or a tool that it runs: it looks at a device for a moment whenever somebody has written to it. */
async function isUdev(pid: string): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  if (/^Name:\s*.*udev/m.test(status)) return true;
  const [, parent] = /^PPid:\s*(\d+)$/m.exec(status) ?? [];
  const above = parent === undefined ? '' : await readFile(`/proc/${parent}/comm`, 'utf8').catch(() => '');
  return above.includes('udev');
}

/**
 * Whether another process of this host has a node open, as far as this user may see. Nodes of one device may have several names, also
 * in the name space of a guest: their numbers are compared.
 */
async function isNodeOpen(rdev: number): Promise<boolean> {
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue;
    // It may have ended, or be somebody else's.
    const fds = await readdir(`/proc/${pid}/fd`).catch(() => []);
    for (const fd of fds) {
      const link = `/proc/${pid}/fd/${fd}`;
      // Only what is below a /dev is asked: a file of a server that is away would not answer.
      if (!(await readlink(link).catch(() => '')).includes('/dev/')) continue;
      const open = await stat(link).catch(() => undefined);
      if (open?.isBlockDevice() && open.rdev === rdev && !(await isUdev(pid))) return true;
    }
  }
  return false;
}

/** Whether a device is mounted, part of another one, or open in another process of this host. False where it is not there. */
export async function isInUse(path: string): Promise<boolean> {
  const node = await statIfExists(path);
  return node?.isBlockDevice() ? (await isHeld(path)) || (await isNodeOpen(node.rdev)) : false;
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

/**
 * Its mark, once what somebody wrote and the kernel still holds back is on the device. Of one that takes no writes its mark as it is:
 * it can be read all the same, and what comes to it later changes the mark.
 */
export async function settledNodeMark(path: string, number: DeviceNumber): Promise<string | undefined> {
  await using image = await FileImage.open(path, 'read', 'block');
  await image.flush().catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EIO' && error.code !== 'ENOSPC') throw error;
  });
  return writeMark(number.major, number.minor);
}

/** Owner, group and mode of a device's node; names of devices are links to nodes. */
export async function setNodePermissions(path: string, permissions: Permissions): Promise<void> {
  await setPermissions(await realpath(path), permissions);
}

/** Longest that a node may take to appear. */
const NODE_MS = 15_000;
const LOOK_MS = 20;

/** Settles when a device has its node. Throws `io-error` where none appears. */
export async function waitForNode(path: string): Promise<void> {
  for (let waited = 0; !(await nodeNumber(path)); waited += LOOK_MS) {
    if (waited > NODE_MS) throw new StowageError('io-error', `${path} does not appear; does udev run?`);
    await sleep(LOOK_MS);
  }
}

/** The check takes a device for an instant: two at once would take each other for a user. */
const oneByOne = pLimit(1);
/** Another process that checks is gone after so long. */
const CHECKS = 3;

/** Whether the kernel itself uses a disk or a partition of it: mounted, swap, LVM, RAID, multipath. */
export function isHeld(path: string): Promise<boolean> {
  return oneByOne(async () => {
    for (let check = 1; await isTaken(path); check++) {
      if (check === CHECKS) return true;
      await sleep(LOOK_MS);
    }
    return false;
  });
}

async function isTaken(path: string): Promise<boolean> {
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
