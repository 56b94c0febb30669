import { execFileSync } from 'node:child_process';
import { mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { after } from 'node:test';
import { glusterBackend } from '../../agent/backends/gluster/index.ts';
import { type GlusterServer, startGluster } from '../support/gluster.ts';
import { isRoot, scratch } from '../support/scratch.ts';
import { filesOutside } from './hands.ts';
import { runBackendSuite } from './suite.ts';

if (isRoot) {
  const room = scratch();
  const others = join(room.path, 'others');
  let server: Promise<GlusterServer> | undefined;
  let grounds = 0;

  /** The server, and another client of it. */
  const start = async (): Promise<GlusterServer> => {
    const started = await startGluster(join(room.path, 'server'));
    mkdirSync(others);
    execFileSync('mount', ['-t', 'glusterfs', `${started.address}:gv0`, others]);
    return started;
  };
  after(async () => {
    if (server) execFileSync('umount', ['-l', others]);
    await (await server)?.[Symbol.asyncDispose]();
    await room[Symbol.asyncDispose]();
  });

  runBackendSuite({
    name: 'gluster without a mount',
    backend: glusterBackend,
    skip: [
      {
        tests: ['storage that is in use is not let go of, and the pool goes on'],
        reason: 'a client is let go of whoever else has a file open',
      },
    ],
    async ground() {
      server ??= start();
      const { address } = await server;
      const name = `ground-${++grounds}`;
      const directory = join(others, name);
      mkdirSync(directory);
      return {
        definition: { source: { hosts: [{ name: address }], name: 'gv0', dir: `/${name}` } },
        outside: filesOutside(directory),
        away: () => renameSync(directory, `${directory}.away`),
        back: () => renameSync(`${directory}.away`, directory),
        async [Symbol.asyncDispose]() {},
      };
    },
  });
}
