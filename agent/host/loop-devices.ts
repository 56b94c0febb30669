import type { Stats } from 'node:fs';
import { readFile, realpath, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { isStowageError, StowageError } from '../../shared/util/errors.ts';
import { entriesIfExists, exists, statIfExists } from './files.ts';
import { runOk } from './run.ts';

const BLOCK = '/sys/block';

export interface LoopDevice {
  /** Such as `/dev/loop3`. */
  path: string;
  isReadOnly: boolean;
}

/** Numbers that losetup writes as text in some versions; null where it may not ask the kernel, as who is not root. */
const numberSchema = z
  .union([z.number(), z.string().transform(Number), z.null()])
  .transform((value) => value ?? undefined);
const listSchema = z.object({
  loopdevices: z.array(
    z.object({ name: z.string(), 'back-ino': numberSchema, 'back-maj:min': z.string().nullish() }),
  ),
});

/** What a file of the kernel says of a loop device; undefined where it stands on nothing, or on what has no path that can be told. */
async function told(loop: string, file: string): Promise<string | undefined> {
  try {
    return (await readFile(join(BLOCK, loop, file), 'utf8')).replace(/\n$/, '');
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (['ENOENT', 'ENODEV', 'ENXIO', 'ENAMETOOLONG'].includes(code)) return undefined;
    throw error;
  }
}

const isAttached = (loop: string): Promise<boolean> => exists(join(BLOCK, loop, 'loop'));

/** As losetup writes the number of a file system. */
function deviceNumber(dev: number): string {
  const major = ((dev / 0x1_0000_0000) & 0xffff_f000) | ((dev >>> 8) & 0xfff);
  return `${major}:${((dev >>> 12) & 0xffff_ff00) | (dev & 0xff)}`;
}

/** Whether a path that the kernel tells, and that may be one of another namespace, is that of a file. */
async function isPathOf(backing: string | undefined, path: string, { ino, dev }: Stats): Promise<boolean> {
  if (backing === undefined) return false;
  // What cannot be looked at, such as in a directory of somebody else, is compared by its path.
  const there = await stat(backing).catch(() => undefined);
  return there ? there.ino === ino && there.dev === dev : backing === (await realpath(path));
}

/**
 * The loop devices of this host that stand on a file or on a part of it, whoever made them. The kernel says which file that is, so that it
 * is known under any path and name that others have it by. Who may not ask the kernel, as who is not root, knows it by its path.
 */
export async function loopDevicesOf(path: string): Promise<LoopDevice[]> {
  const loops = (await entriesIfExists(BLOCK)).filter((name) => name.startsWith('loop'));
  const attached: string[] = [];
  for (const loop of loops) if (await isAttached(loop)) attached.push(loop);
  if (attached.length === 0) return [];
  const { stdout } = await runOk('losetup', ['--list', '--json', '--output', 'NAME,BACK-INO,BACK-MAJ:MIN']);
  const listed = stdout.trim() === '' ? [] : listSchema.parse(JSON.parse(stdout)).loopdevices;
  const kernel = new Map(listed.map((entry) => [basename(entry.name), entry]));
  const file = await statIfExists(path);
  if (!file) return [];
  const devices: LoopDevice[] = [];
  for (const loop of attached) {
    const { 'back-ino': inode, 'back-maj:min': device } = kernel.get(loop) ?? {};
    const isSame =
      inode !== undefined && device
        ? inode === file.ino && device.trim() === deviceNumber(file.dev)
        : await isPathOf(await told(loop, 'loop/backing_file'), path, file);
    if (isSame) devices.push({ path: `/dev/${loop}`, isReadOnly: (await told(loop, 'ro')) === '1' });
  }
  return devices;
}

/** Makes a loop device of a whole file, or gives the one that it has. Throws `volume-in-use` where there is one of a part of it, `not-supported` for who is not root. */
export async function attachLoop(path: string, readOnly: boolean): Promise<string> {
  const args = ['--find', '--show', '--nooverlap', ...(readOnly ? ['--read-only'] : [])];
  const { stdout } = await runOk('losetup', [...args, '--', path]).catch((error) => {
    if (!isStowageError(error, 'tool-failed')) throw error;
    if (/permission denied/i.test(error.message))
      throw new StowageError('not-supported', 'only an agent that is root makes block devices of files', {
        cause: error,
      });
    if (!/overlapping/i.test(error.message)) throw error;
    throw new StowageError('volume-in-use', 'a loop device of this host stands on a part of it', {
      cause: error,
    });
  });
  const device = stdout.trim();
  // What is read and written is held in memory once. Not every file system can.
  await runOk('losetup', ['--direct-io=on', device]).catch(() => undefined);
  return device;
}

/** Throws `volume-in-use` while somebody has it open: it goes by itself once they have closed it. */
export async function detachLoop(device: string): Promise<void> {
  await runOk('losetup', ['--detach', device]);
  if (await isAttached(basename(device)))
    throw new StowageError(
      'volume-in-use',
      `${device} is open, such as by a mount; it goes once whoever has it open has closed it`,
    );
}
