import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { createVolume } from '../../agent/formats/ploop/create.ts';
import { scratch } from '../support/scratch.ts';

// The kernel module exists on no machine of ours: its /sys tree is copied by shape, and the tool notes what it was told.
test('a mounted volume is left to the real tool, and other changes of it are refused', async () => {
  await using room = scratch();
  const directory = join(room.path, 'ct');
  await createVolume(directory, { capacityBytes: 8 << 20 });
  const level = join(room.path, 'sys/ploop12345/pdelta/0');
  mkdirSync(level, { recursive: true });
  writeFileSync(join(level, 'image'), `${join(directory, 'root.hds')}\n`);
  const tools = join(room.path, 'bin');
  mkdirSync(tools);
  writeFileSync(join(tools, 'ploop'), `#!/bin/sh\necho "$@" >> ${room.path}/told\n`);
  chmodSync(join(tools, 'ploop'), 0o755);

  const agent = (...args: string[]): string => {
    try {
      const env = {
        ...process.env,
        STOWAGE_SYS_BLOCK: join(room.path, 'sys'),
        PATH: `${tools}:${process.env.PATH}`,
      };
      return execFileSync(process.execPath, ['agent/main.ts', 'ploop', ...args], {
        env,
        encoding: 'utf8',
        stdio: 'pipe',
      });
    } catch (error) {
      return String((error as { stderr: string }).stderr);
    }
  };
  const guid = '{11111111-2222-3333-4444-555555555555}';
  agent('grow', directory, '--capacity', '64M');
  agent('snapshot', 'create', directory, '--guid', guid);
  agent('snapshot', 'delete', directory, guid);
  const descriptor = join(directory, 'DiskDescriptor.xml');
  assert.deepEqual(readFileSync(join(room.path, 'told'), 'utf8').trim().split('\n'), [
    `resize -s 131072 ${descriptor}`,
    `snapshot -u ${guid} ${descriptor}`,
    `snapshot-delete -u ${guid} ${descriptor}`,
  ]);
  assert.match(agent('convert', directory, '--layout', 'raw'), /mounted as ploop12345.*volume-mounted/);
  assert.match(agent('check', directory, '--repair'), /mounted as ploop12345/);
});
