import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { isStowageError, StowageError } from '../../shared/util/errors.ts';
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

/** What a file of the kernel says of a loop device; undefined where it stands on nothing. */
async function told(loop: string, file: string): Promise<string | undefined> {
  try {
    return (await readFile(join(BLOCK, loop, file), 'utf8')).replace(/\n$/, '');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENODEV' || code === 'ENXIO') return undefined;
    throw error;
  }
}

/** The file that a loop device stands on, as its kernel knows it, by its number and that of its file system; undefined where that cannot be asked. */
async function backingOf(loop: string): Promise<{ inode: number; device: string } | undefined> {
  const args = ['--list', '--json', '--output', 'NAME,BACK-INO,BACK-MAJ:MIN', '--', `/dev/${loop}`];
  const { stdout } = await runOk('losetup', args);
  const [found] = stdout.trim() === '' ? [] : listSchema.parse(JSON.parse(stdout)).loopdevices;
  const [inode, device] = [found?.['back-ino'], found?.['back-maj:min']?.trim()];
  return inode === undefined || device === undefined ? undefined : { inode, device };
}

/** As losetup writes the number of a file system. */
function deviceNumber(dev: number): string {
  const major = ((dev / 0x1_0000_0000) & 0xffff_f000) | ((dev >>> 8) & 0xfff);
  return `${major}:${((dev >>> 12) & 0xffff_ff00) | (dev & 0xff)}`;
}

/**
 * The loop devices of this host that stand on a file or on a part of it, whoever made them. The kernel says which file that is, so that it
 * is known under any path that others have it by; only those are asked whose file has the same name.
 */
export async function loopDevicesOf(path: string): Promise<LoopDevice[]> {
  const devices: LoopDevice[] = [];
  for (const loop of (await readdir(BLOCK)).filter((name) => name.startsWith('loop'))) {
    const file = await told(loop, 'loop/backing_file');
    if (file === undefined || basename(file) !== basename(path)) continue;
    const backing = await backingOf(loop);
    const { ino, dev } = await stat(path);
    // Who may not ask the kernel knows it by its path alone.
    const isSame = backing ? backing.inode === ino && backing.device === deviceNumber(dev) : file === path;
    if (isSame) devices.push({ path: `/dev/${loop}`, isReadOnly: (await told(loop, 'ro')) === '1' });
  }
  return devices;
}

/** Makes a loop device of a whole file, or gives the one that it has. Throws `volume-in-use` where there is one of a part of it. */
export async function attachLoop(path: string, readOnly: boolean): Promise<string> {
  const args = ['--find', '--show', '--nooverlap', ...(readOnly ? ['--read-only'] : [])];
  const { stdout } = await runOk('losetup', [...args, '--', path]).catch((error) => {
    if (!isStowageError(error, 'tool-failed') || !/overlapping/i.test(error.message)) throw error;
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
  if ((await told(basename(device), 'loop/backing_file')) !== undefined)
    throw new StowageError(
      'volume-in-use',
      `${device} is open, such as by a mount; it goes once whoever has it open has closed it`,
    );
}
