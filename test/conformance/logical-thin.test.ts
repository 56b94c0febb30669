import { execFileSync } from 'node:child_process';
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import { logicalBackend } from '../../agent/backends/logical/index.ts';
import { poolDefinitionSchema } from '../../shared/conf/pool.ts';
import { inTestHost, testInTestHost } from '../hosts/guest.ts';
import { holdOpen } from './hands.ts';
import { encryptedElsewhere, runBackendSuite } from './suite.ts';

const DISKS = ['/dev/vdb', '/dev/vdc'];
const source = { name: 'vg0/thin' };

const lvm = (command: string, ...args: string[]): void =>
  void execFileSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });

let made = false;

function write(name: string, bytes: Buffer): void {
  const fd = openSync(`/dev/vg0/${name}`, 'r+');
  writeSync(fd, bytes);
  fsyncSync(fd);
  closeSync(fd);
}

if (!inTestHost) testInTestHost(import.meta.url, 'thin volumes in a test host', { disksMiB: [256, 256] });
else
  runBackendSuite({
    name: 'logical with a thin pool',
    backend: logicalBackend,
    slow: true,
    skip: [encryptedElsewhere('devices')],
    overwrite: write,
    traits: logicalBackend.traitsOf?.(
      poolDefinitionSchema.parse({
        name: 'p',
        uuid: '00000000-0000-0000-0000-000000000000',
        type: 'logical',
        source,
      }),
    ),
    ground() {
      if (!made) {
        lvm('vgcreate', '--yes', 'vg0', ...DISKS);
        lvm('lvcreate', '--yes', '--type', 'thin-pool', '--size', '400M', '--name', 'thin', 'vg0');
        lvm('lvchange', '--errorwhenfull', 'y', 'vg0/thin');
      }
      made = true;
      return {
        definition: { source, target: { path: '/dev/vg0' } },
        outside: {
          make(name, bytes) {
            lvm('lvcreate', '--yes', '--virtualsize', '4M', '--name', name, '--thinpool', 'thin', 'vg0');
            write(name, bytes);
          },
          change: (name) => write(name, Buffer.alloc(4096, 1)),
          rename: (from, to) => lvm('lvrename', 'vg0', from, to),
          remove: (name) => lvm('lvremove', '--yes', `vg0/${name}`),
        },
        hold: (volume) => holdOpen(`/dev/vg0/${volume}`),
        away: () => lvm('vgrename', 'vg0', 'elsewhere'),
        back: () => lvm('vgrename', 'elsewhere', 'vg0'),
        // The pool stays for the next test, empty: making one takes seconds here.
        async [Symbol.asyncDispose]() {
          const options = ['--noheadings', '--options', 'lv_name', '--select', 'pool_lv=thin', 'vg0'];
          const names = execFileSync('lvs', options, { encoding: 'utf8' }).split(/\s+/).filter(Boolean);
          if (names.length > 0) lvm('lvremove', '--force', '--yes', ...names.map((name) => `vg0/${name}`));
        },
      };
    },
  });
