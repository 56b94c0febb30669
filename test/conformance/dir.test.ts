import { mkdirSync, renameSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { dirBackend } from '../../agent/backends/dir/index.ts';
import { filesOutside } from './hands.ts';
import { runBackendSuite } from './suite.ts';

runBackendSuite({
  name: 'dir',
  backend: dirBackend,
  skip: [
    {
      tests: ['storage that is in use is not let go of, and the pool goes on'],
      reason: 'a directory is let go of whatever is open in it',
    },
  ],
  ground(path) {
    const pool = join(path, 'pool');
    mkdirSync(pool);
    return {
      definition: { target: { path: pool } },
      outside: filesOutside(pool),
      // As a mount point looks whose file system is not there.
      away() {
        renameSync(pool, `${pool}.away`);
        mkdirSync(pool);
      },
      back() {
        rmdirSync(pool);
        renameSync(`${pool}.away`, pool);
      },
      async [Symbol.asyncDispose]() {},
    };
  },
});
