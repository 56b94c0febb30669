import { mkdir, rmdir, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import type { PoolDefinition } from '../../shared/conf/pool.ts';
import { clock, sleep } from '../../shared/util/clock.ts';
import { isStowageError, StowageError } from '../../shared/util/errors.ts';
import { configurationRoot } from '../host/configurations.ts';
import { lockFile } from '../host/lock.ts';

/** Longest wait for the lock: Proxmox VE holds it for at most 60 s, and its cluster gives up on an owner after 120. */
const PATIENCE_MS = 150_000;
/** So long a lock of the cluster is its owner's for certain. */
const HELD_MS = 110_000;
const LOOK_MS = 100;
const CLUSTER_LOOK_MS = 1_000;

/** What takes a lock once: a function that gives it back, or undefined while somebody else has it. */
type Take = () => Promise<(() => Promise<void>) | undefined>;

/** Of storage that one node has: `flock(2)` on a file of the node. */
const onNode =
  (path: string): Take =>
  async () => {
    try {
      const file = await lockFile(path, '');
      return () => file.close();
    } catch (error) {
      if (isStowageError(error, 'volume-in-use')) return undefined;
      throw error;
    }
  };

/** Of storage that all nodes have: a directory in the file system of the cluster, which only one of them can make. */
const onCluster =
  (path: string): Take =>
  async () => {
    try {
      await mkdir(path);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT' || code === 'EACCES' || code === 'EROFS')
        throw new StowageError(
          'pool-inaccessible',
          'the cluster of Proxmox VE gives no locks now: its file system is not there, or has no quorum',
        );
      if (code !== 'EEXIST') throw error;
      // Asks the cluster to take it from an owner that is gone.
      await utimes(path, 0, 0).catch(() => undefined);
      return undefined;
    }
    const since = clock.monotonicMs();
    return async () => {
      // By then the cluster may have given it to another: that one's it stays. What was done is done.
      if (clock.monotonicMs() - since < HELD_MS) await rmdir(path).catch(() => undefined);
    };
  };

async function takeOf(root: string, storage: string, isShared: boolean): Promise<Take> {
  if (isShared) return onCluster(join(root, 'etc/pve/priv/lock', `storage-${storage}`));
  const directory = join(root, 'var/lock/pve-manager');
  // The first of its node to need it makes it.
  await mkdir(directory, { recursive: true, mode: 0o755 });
  return onNode(join(directory, `pve-storage-${storage}`));
}

/** What keeps Proxmox VE from a pool that it manages, for the time of some work; nothing does from others. */
export function managersLock({
  name,
  managedBy,
  isShared = false,
}: Pick<PoolDefinition, 'name' | 'managedBy' | 'isShared'>): <T>(work: () => Promise<T>) => Promise<T> {
  if (managedBy === undefined) return (work) => work();
  return (work) => underStorageLock({ root: configurationRoot(), storage: name, isShared }, work);
}

/**
 * Runs `work` under the lock under which Proxmox VE itself names and removes the volumes of a storage. Throws `volume-in-use` when the lock is
 * not to be had for 150 s, `pool-inaccessible` where the cluster gives none.
 */
async function underStorageLock<T>(
  { root, storage, isShared }: { root: string; storage: string; isShared: boolean },
  work: () => Promise<T>,
): Promise<T> {
  const take = await takeOf(root, storage, isShared);
  const deadline = clock.monotonicMs() + PATIENCE_MS;
  for (;;) {
    const release = await take();
    if (release)
      try {
        return await work();
      } finally {
        await release();
      }
    if (clock.monotonicMs() > deadline)
      throw new StowageError(
        'volume-in-use',
        `Proxmox VE has held its lock of the storage '${storage}' for ${PATIENCE_MS / 1000} s`,
      );
    // Of a shared one each try is a message to all nodes.
    await sleep(isShared ? CLUSTER_LOOK_MS : LOOK_MS);
  }
}
