import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { inTestHost, testInTestHost } from '../hosts/guest.ts';
import { TestAgent } from '../support/agent.ts';
import { leaksNothing } from '../support/rounds.ts';
import { scratch } from '../support/scratch.ts';

if (!inTestHost) testInTestHost(import.meta.url, 'rounds on thin LVM', { disksMiB: [512] });
else
  describe('rounds on thin LVM', () => {
    const room = scratch();
    let agent: TestAgent;
    before(async () => {
      for (const args of [
        ['pvcreate', '/dev/vdb'],
        ['vgcreate', 'vg', '/dev/vdb'],
        ['lvcreate', '--type', 'thin-pool', '--size', '256M', '--name', 'thin', 'vg'],
      ])
        execFileSync(args[0]!, args.slice(1), { stdio: 'ignore' });
      agent = await TestAgent.start(join(room.path, 'state'));
      await agent.ok('POST', '/pools', { name: 'p', type: 'logical', source: { name: 'vg/thin' } });
      await agent.ok('POST', '/pools/p/start');
    });
    after(async () => {
      await agent[Symbol.asyncDispose]();
      await room[Symbol.asyncDispose]();
    });
    test('leave no logical volume and no mapping', async () => {
      const kind = { name: 'thin LVM', format: 'raw', share: 0.005, snapshots: true, map: true };
      await leaksNothing(agent, kind, '');
      const left = execFileSync('lvs', ['--noheadings', '-o', 'lv_name', 'vg'], { encoding: 'utf8' });
      assert.deepEqual(
        left
          .split('\n')
          .map((line) => line.trim())
          .filter(Boolean),
        ['thin'],
      );
    });
  });
