import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { netfsBackend } from '../../agent/backends/netfs/index.ts';
import { inTestHost, testInTestHost } from '../hosts/guest.ts';
import { filesOutside } from './hands.ts';
import { encryptedElsewhere, runBackendSuite, type Suite } from './suite.ts';

interface Server {
  format: 'nfs' | 'cifs';
  /** Where others see what it serves, and the name that clients know that by. */
  directory: string;
  exported: string;
  mountOptions: string[];
  skip?: Suite['skip'];
}

const SERVERS: Server[] = [
  // What others change on the server is to be seen at once.
  { format: 'nfs', directory: '/srv/nfs', exported: '', mountOptions: ['vers=4.2', 'noac'] },
  // Its locks would keep qemu-img from opening an image twice. Whoever works on the server's own files is not seen: others
  // are another client.
  {
    format: 'cifs',
    directory: '/mnt/a',
    exported: '/s',
    mountOptions: ['nobrl', 'actimeo=0', 'cache=none'],
    skip: [
      {
        tests: ['what others make, change, rename and remove is seen, and ids stay with their volumes'],
        reason: 'CIFS may have no inode numbers: a volume that others rename is taken for another',
      },
      {
        tests: ['raw', 'qcow2', 'ploop'].map(
          (format) => `a volume of format ${format} has the mode that was asked for`,
        ),
        reason: 'all files of a CIFS mount have the mode that the mount gives them',
      },
    ],
  },
];

if (!inTestHost) testInTestHost(import.meta.url, 'netfs in a test host');
else {
  execFileSync('nfs-server', { stdio: 'ignore' });
  execFileSync('smb-server', { stdio: 'ignore' });
  const options = 'guest,nobrl,nosharesock,actimeo=0,cache=none,closetimeo=0';
  execFileSync('mount', ['-t', 'cifs', '-o', options, '//localhost/s', '/mnt/a']);
  for (const { format, directory, exported, mountOptions, skip } of SERVERS) {
    let grounds = 0;
    runBackendSuite({
      name: `netfs with ${format}`,
      backend: netfsBackend,
      slow: true,
      skip: [
        encryptedElsewhere('files'),
        {
          tests: ['storage that is in use is not let go of, and the pool goes on'],
          reason: 'what a server does not answer for is let go of by force',
        },
        ...(skip ?? []),
      ],
      ground(path) {
        const name = `ground-${++grounds}`;
        const dir = join(directory, name);
        mkdirSync(dir);
        const target = join(path, 'mounted');
        const umount = (): void => void execFileSync('umount', ['-l', target], { stdio: 'ignore' });
        return {
          definition: {
            target: { path: target },
            source: { hosts: [{ name: 'localhost' }], dir: `${exported}/${name}`, format },
            mountOptions,
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
}
