import { execFileSync } from 'node:child_process';
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fsBackend } from '../../agent/backends/fs/index.ts';
import { isRoot } from '../support/scratch.ts';
import { filesOutside, holdOpen } from './hands.ts';
import { encryptedElsewhere, runBackendSuite } from './suite.ts';

/** The least that each can be made with. */
const LEAST_MIB = { ext4: 64, xfs: 320, btrfs: 128 };

if (isRoot)
  for (const type of ['ext4', 'xfs', 'btrfs'] as const)
    runBackendSuite({
      name: `fs with ${type}`,
      backend: fsBackend,
      skip: [encryptedElsewhere('files')],
      ground(path, sizeMiB) {
        const image = join(path, 'disk.img');
        const target = join(path, 'mounted');
        writeFileSync(image, '');
        truncateSync(image, Math.max(sizeMiB, LEAST_MIB[type]) << 20);
        execFileSync(`mkfs.${type}`, ['-q', image]);
        // btrfs is no format that libvirt has for pools: mount finds it by itself.
        const format = type === 'btrfs' ? 'auto' : type;
        const umount = (): void => void execFileSync('umount', ['-l', target], { stdio: 'ignore' });
        return {
          definition: { target: { path: target }, source: { devices: [{ path: image }], format } },
          outside: filesOutside(target),
          hold: (volume) => holdOpen(join(target, volume)),
          away: umount,
          // The pool mounts it again when it is started.
          back() {},
          async [Symbol.asyncDispose]() {
            try {
              umount();
            } catch {
              // the pool was stopped, and nothing is mounted
            }
          },
        };
      },
    });
