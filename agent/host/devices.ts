import { readFile } from 'node:fs/promises';
import { StowageError } from '../../shared/util/errors.ts';
import { run } from './run.ts';

/** The number of a device of this host. */
export interface DeviceNumber {
  major: number;
  minor: number;
}

/** Of what stat(2) tells: the major part is in bits 8 to 19. */
export const numberOf = (rdev: number): DeviceNumber => ({
  major: (rdev >> 8) & 0xfff,
  minor: (rdev & 0xff) | ((rdev >> 12) & 0xfff00),
});

/** Throws `pool-not-empty`, with what was found, unless nothing is on a device; `io-error` when that cannot be told. */
export async function refuseUsedDevice(device: string): Promise<void> {
  const args = ['--probe', '--output', 'value', '--match-tag', 'TYPE', '--', device];
  const { status, stdout, stderr } = await run('blkid', args);
  if (stderr.trim() !== '')
    throw new StowageError('io-error', `it cannot be told what is on ${device}: ${stderr.trim()}`);
  // 2: nothing was found; anything else, such as two signatures, is something.
  if (status === 2) return;
  const found = stdout.trim();
  throw new StowageError(
    'pool-not-empty',
    `${device} holds something already${found && `: ${found}`}; nothing was written to it; overwrite destroys that`,
  );
}

/** The same as long as this process lives. */
let bootId: string | undefined;

/**
 * A text that changes whenever something was written to a block device of this host: which attachment of which boot it is,
 * and the counts of what was written since. `undefined` for a device that is not there.
 */
export async function writeMark(major: number, minor: number): Promise<string | undefined> {
  const directory = `/sys/dev/block/${major}:${minor}`;
  const read = (path: string): Promise<string> => readFile(path, 'utf8');
  const stat = await read(`${directory}/stat`).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
  if (stat === undefined) return undefined;
  // Which of the disks that had this number; kernels before 5.15 do not tell.
  const sequence = await read(`${directory}/diskseq`).catch(() => '');
  bootId ??= await read('/proc/sys/kernel/random/boot_id');
  // Sectors written and discarded: the 7th and the 14th number. Counts of requests rise with every flush.
  const counts = stat.trim().split(/\s+/);
  return [bootId.slice(0, 8), sequence.trim(), counts[6], counts[13]].join('.');
}
