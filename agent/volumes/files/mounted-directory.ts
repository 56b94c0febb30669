import { realpath, rmdir } from 'node:fs/promises';
import type { Permissions } from '../../../shared/conf/permissions.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { makeDirectory } from '../../host/files.ts';
import { mountAt } from '../../host/mounts.ts';
import { run, wordsOf } from '../../host/run.ts';
import type { DirectoryStorage } from './file-pool.ts';

/** A server that does not answer keeps mount waiting without progress. */
const MOUNT_STALL_MS = 20_000;
const UMOUNT_STALL_MS = 5_000;

export interface MountOptions {
  path: string;
  /** As the mount table shows it: a device, `host:/dir`, `//host/share`. */
  source: string;
  /** `mount` and its arguments. */
  command: readonly string[];
  permissions?: Permissions;
  local: boolean;
  knownBy: DirectoryStorage['knownBy'];
  /** Makes the file system, where that can be. */
  format?(overwrite: boolean): Promise<void>;
}

/** A directory that a file system is mounted on while its pool is started. */
export function mountedDirectory(options: MountOptions): DirectoryStorage {
  const { path, source, local, knownBy } = options;
  return {
    path,
    local,
    knownBy,

    async build(overwrite) {
      await makeDirectory(path, options.permissions);
      if (overwrite === undefined) return;
      if (!options.format)
        throw new StowageError('not-supported', 'the file system of this pool is made on its server');
      await options.format(overwrite);
    },

    async attach() {
      const there = mountAt(path);
      if (there) {
        if (await isSame(there.source, source)) return false;
        throw new StowageError('pool-inaccessible', `${there.source} is mounted on ${path}, not ${source}`);
      }
      await makeDirectory(path);
      const [tool = 'mount', ...args] = options.command;
      const { status, stderr, stdout } = await run(tool, args, { stallMs: MOUNT_STALL_MS });
      // The mount table has the last word: some helpers fail after they have mounted, or the other way round.
      if (mountAt(path)) return true;
      throw new StowageError(
        'tool-failed',
        `${source} cannot be mounted on ${path}: ${wordsOf({ stdout, stderr }) || `status ${status}`}`,
      );
    },

    async detach() {
      if (!mountAt(path)) return;
      const umount = () => run('umount', ['--', path], { stallMs: UMOUNT_STALL_MS });
      const { stderr } = await umount().catch((error: Error) => ({ stderr: error.message }));
      if (!mountAt(path)) return;
      if (local) throw new StowageError('tool-failed', `${path} cannot be unmounted: ${stderr.trim()}`);
      await forceUnmount(path);
      if (mountAt(path))
        throw new StowageError('tool-failed', `${path} cannot be unmounted: ${stderr.trim()}`);
    },

    remove: () => rmdir(path),
  };
}

/**
 * Frees a directory of a server that does not answer: what waits for it fails, and the name is free at once. The tool may hang
 * although it has done its work, so the mount table is asked afterwards and not the tool.
 */
export async function forceUnmount(path: string): Promise<void> {
  if (!mountAt(path)) return;
  await run('umount', ['-f', '-l', '--', path], { stallMs: UMOUNT_STALL_MS }).catch(() => undefined);
}

/** Whether the mount table speaks of the same: devices go by several names, and a file is mounted by a loop device. */
async function isSame(mounted: string, wanted: string): Promise<boolean> {
  if (mounted === wanted) return true;
  if (!wanted.startsWith('/') || wanted.startsWith('//'))
    return mounted.replace(/\/$/, '') === wanted.replace(/\/$/, '');
  const real = await realpath(wanted);
  if (real === mounted || real === (await realpath(mounted).catch(() => mounted))) return true;
  if (!mounted.startsWith('/dev/loop')) return false;
  const { stdout } = await run('losetup', ['--noheadings', '--output', 'BACK-FILE', mounted]);
  return stdout.trim() === real;
}
