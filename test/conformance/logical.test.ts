import { execFileSync } from 'node:child_process';
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import { logicalBackend } from '../../agent/backends/logical/index.ts';
import { inTestHost, testInTestHost } from '../hosts/guest.ts';
import { holdOpen } from './hands.ts';
import { runBackendSuite } from './suite.ts';

const DISKS = ['/dev/ubdb', '/dev/ubdc'];

const lvm = (command: string, ...args: string[]): void =>
  void execFileSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });

let made = false;

function write(name: string, bytes: Buffer): void {
  const fd = openSync(`/dev/vg0/${name}`, 'r+');
  writeSync(fd, bytes);
  fsyncSync(fd);
  closeSync(fd);
}

if (!inTestHost) testInTestHost(import.meta.url, 'logical volumes in a test host', { disksMiB: [256, 256] });
else
  runBackendSuite({
    name: 'logical with LVM',
    backend: logicalBackend,
    slow: true,
    ground() {
      if (!made) lvm('vgcreate', '--yes', 'vg0', ...DISKS);
      made = true;
      return {
        definition: { source: { name: 'vg0' }, target: { path: '/dev/vg0' } },
        outside: {
          make(name, bytes) {
            lvm('lvcreate', '--yes', '--size', '4M', '--name', name, 'vg0');
            write(name, bytes);
          },
          change: (name) => write(name, Buffer.alloc(4096, 1)),
          rename: (from, to) => lvm('lvrename', 'vg0', from, to),
          remove: (name) => lvm('lvremove', '--yes', `vg0/${name}`),
        },
        hold: (volume) => holdOpen(`/dev/vg0/${volume}`),
        away: () => lvm('vgrename', 'vg0', 'elsewhere'),
        back: () => lvm('vgrename', 'elsewhere', 'vg0'),
        // The group stays for the next test, empty: making one takes seconds here.
        async [Symbol.asyncDispose]() {
          lvm('lvremove', '--force', '--yes', 'vg0');
        },
      };
    },
  });
