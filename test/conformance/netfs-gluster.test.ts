import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after } from 'node:test';
import { netfsBackend } from '../../agent/backends/netfs/index.ts';
import { type GlusterServer, startGluster } from '../support/gluster.ts';
import { isRoot, scratch } from '../support/scratch.ts';
import { filesOutside } from './hands.ts';
import { encryptedElsewhere, runBackendSuite } from './suite.ts';

const UNCACHED = ['attribute-timeout=0', 'entry-timeout=0', 'negative-timeout=0'];

if (isRoot) {
  const room = scratch();
  const others = join(room.path, 'others');
  let server: Promise<GlusterServer> | undefined;
  let grounds = 0;

  /** The server, and another client of it. */
  const start = async (): Promise<GlusterServer> => {
    const started = await startGluster(join(room.path, 'server'));
    mkdirSync(others);
    execFileSync('mount', ['-t', 'glusterfs', '-o', UNCACHED.join(), `${started.address}:gv0`, others]);
    return started;
  };
  after(async () => {
    if (server) execFileSync('umount', ['-l', others]);
    await (await server)?.[Symbol.asyncDispose]();
    await room[Symbol.asyncDispose]();
  });

  runBackendSuite({
    name: 'netfs with glusterfs',
    backend: netfsBackend,
    skip: [
      encryptedElsewhere('files'),
      {
        tests: ['storage that is in use is not let go of, and the pool goes on'],
        reason: 'what a server does not answer for is let go of by force',
      },
    ],
    async ground(path) {
      server ??= start();
      const { address } = await server;
      const name = `ground-${++grounds}`;
      mkdirSync(join(others, name));
      const target = join(path, 'mounted');
      const umount = (): void => void execFileSync('umount', ['-l', target], { stdio: 'ignore' });
      return {
        definition: {
          target: { path: target },
          source: { hosts: [{ name: address }], dir: `gv0/${name}`, format: 'glusterfs' },
          mountOptions: UNCACHED,
        },
        outside: filesOutside(join(others, name)),
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
