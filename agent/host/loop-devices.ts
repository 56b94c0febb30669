import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { StowageError } from '../../shared/util/errors.ts';
import { runOk } from './run.ts';

const BLOCK = '/sys/block';

/** What one loop device stands on, as its kernel names it; undefined for one that is free. */
async function backingFile(loop: string): Promise<string | undefined> {
  try {
    return (await readFile(join(BLOCK, loop, 'loop/backing_file'), 'utf8')).trimEnd();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENODEV' || code === 'ENXIO') return undefined;
    throw error;
  }
}

/**
 * The loop devices of this host that stand on a file, whoever made them, such as `/dev/loop3`. Files are compared by what they are, not
 * by their paths; storage is asked only of files that have the same name.
 */
export async function loopDevicesOf(path: string): Promise<string[]> {
  const devices: string[] = [];
  for (const loop of (await readdir(BLOCK)).filter((name) => name.startsWith('loop'))) {
    const backing = await backingFile(loop);
    if (backing === undefined || basename(backing) !== basename(path)) continue;
    const [one, other] = await Promise.all([statIfThere(backing), statIfThere(path)]);
    if (one && other && one.ino === other.ino && one.dev === other.dev) devices.push(`/dev/${loop}`);
  }
  return devices;
}

async function statIfThere(path: string) {
  return stat(path, { bigint: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
    return undefined;
  });
}

/** Makes a loop device of a file, or gives the one that it has. */
export async function attachLoop(path: string, readOnly: boolean): Promise<string> {
  const args = ['--find', '--show', '--nooverlap', ...(readOnly ? ['--read-only'] : [])];
  const { stdout } = await runOk('losetup', [...args, '--', path]);
  const device = stdout.trim();
  // What is read and written is held in memory once. Not every file system can.
  await runOk('losetup', ['--direct-io=on', device]).catch(() => undefined);
  return device;
}

/** Throws `volume-in-use` while somebody has it open: it goes by itself once they have closed it. */
export async function detachLoop(device: string): Promise<void> {
  await runOk('losetup', ['--detach', device]);
  if ((await backingFile(basename(device))) !== undefined)
    throw new StowageError(
      'volume-in-use',
      `${device} is open, such as by a mount; it goes once whoever has it open has closed it`,
    );
}
