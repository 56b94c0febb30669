import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { vstorageBackend } from '../../agent/backends/vstorage/index.ts';
import { isRoot } from '../support/scratch.ts';
import { filesOutside } from './hands.ts';
import { encryptedElsewhere, runBackendSuite } from './suite.ts';

/** What stands in for Virtuozzo's tool: a mount that the mount table shows as the tool's. */
const STAND_IN = `#!/bin/sh
[ "$1" = -c ] || exit 1
exec mount -t overlay -o "lowerdir=$STAND_IN/lower,upperdir=$STAND_IN/upper,workdir=$STAND_IN/work" "vstorage://$2" "$3"
`;

if (isRoot)
  runBackendSuite({
    name: 'vstorage with a stand-in for its mount',
    backend: vstorageBackend,
    skip: [
      encryptedElsewhere('files'),
      {
        tests: ['storage that is in use is not let go of, and the pool goes on'],
        reason: 'what a server does not answer for is let go of by force',
      },
      {
        tests: ['agents of two hosts do each other no harm'],
        reason: 'the stand-in cannot be mounted twice',
      },
    ],
    ground(path) {
      const room = join(path, 'stand-in');
      const target = join(path, 'mounted');
      for (const part of ['', 'bin', 'lower', 'upper', 'work']) mkdirSync(join(room, part));
      writeFileSync(join(room, 'bin/vstorage-mount'), STAND_IN.replaceAll('$STAND_IN', room), {
        mode: 0o755,
      });
      const before = process.env.PATH;
      process.env.PATH = `${join(room, 'bin')}:${before}`;
      const umount = (): void => void execFileSync('umount', ['-l', target], { stdio: 'ignore' });
      return {
        definition: { target: { path: target }, source: { name: 'cluster1' } },
        outside: filesOutside(target),
        away: umount,
        back() {},
        async [Symbol.asyncDispose]() {
          process.env.PATH = before;
          try {
            umount();
          } catch {
            // the pool was stopped, and nothing is mounted
          }
        },
      };
    },
  });
