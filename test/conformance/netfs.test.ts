import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after } from 'node:test';
import { netfsBackend } from '../../agent/backends/netfs/index.ts';
import { startHost, type TestHost } from '../support/hosts.ts';
import { isRoot, scratch } from '../support/scratch.ts';
import { filesOutside } from './hands.ts';
import { encryptedElsewhere, runBackendSuite } from './suite.ts';

if (isRoot) {
  const room = scratch();
  let server: Promise<TestHost> | undefined;
  let grounds = 0;
  after(async () => {
    await (await server)?.[Symbol.asyncDispose]();
    await room[Symbol.asyncDispose]();
  });

  runBackendSuite({
    name: 'netfs with sshfs',
    backend: netfsBackend,
    skip: [
      encryptedElsewhere('files'),
      {
        tests: ['storage that is in use is not let go of, and the pool goes on'],
        reason: 'what a server does not answer for is let go of by force',
      },
      { tests: ['a wipe leaves holes as holes'], reason: 'SFTP tells of no holes' },
      {
        tests: ['what others make, change, rename and remove is seen, and ids stay with their volumes'],
        reason: 'SFTP has no inode numbers: a volume that others rename is taken for another',
      },
      {
        tests: ['an upload over a volume is a new state of that volume'],
        reason: 'SFTP tells times in whole seconds, and this takes less',
      },
    ],
    async ground(path) {
      server ??= startHost(join(room.path, 'server'));
      const { address, port, identity } = await server;
      const dir = join(room.path, `export-${++grounds}`);
      mkdirSync(dir);
      const target = join(path, 'mounted');
      const umount = (): void => void execFileSync('umount', ['-l', target], { stdio: 'ignore' });
      return {
        definition: {
          target: { path: target },
          source: { hosts: [{ name: address }], dir, format: 'sshfs' },
          mountOptions: [
            `port=${port}`,
            `IdentityFile=${identity}`,
            'StrictHostKeyChecking=no',
            'UserKnownHostsFile=/dev/null',
            // What others change on the server is seen at once.
            'dir_cache=no',
            'attr_timeout=0',
          ],
        },
        outside: filesOutside(dir),
        away: umount,
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
}
