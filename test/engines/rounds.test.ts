import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { TestAgent } from '../support/agent.ts';
import { type Kind, leaksNothing } from '../support/rounds.ts';
import { isRoot, mountFileSystem, scratch } from '../support/scratch.ts';

const MIB = 1 << 20;

const FILES: Kind[] = [
  { name: 'raw', format: 'raw', share: 1, map: isRoot },
  { name: 'qcow2', format: 'qcow2', share: 0.1, snapshots: true },
  { name: 'ploop', format: 'ploop', share: 0.1, snapshots: true },
  { name: 'vmdk', format: 'vmdk', share: 0.05 },
];

for (const kind of FILES)
  test(`rounds in a directory: ${kind.name}`, async () => {
    await using room = scratch();
    const path = join(room.path, 'pool');
    mkdirSync(path);
    await using agent = await TestAgent.start(join(room.path, 'state'));
    await agent.ok('POST', '/pools', { name: 'p', type: 'dir', target: { path } });
    await agent.ok('POST', '/pools/p/start');
    await leaksNothing(agent, kind, path);
    const state = join(room.path, 'state');
    const bytes = (readdirSync(state, { recursive: true }) as string[]).reduce(
      (sum, name) => sum + statSync(join(state, name)).size,
      0,
    );
    assert.ok(bytes < 16 * MIB, `the state of the agent has ${bytes} bytes`);
  });
for (const [type, fileSystem] of [
  ['dir', 'xfs'],
  ['btrfs', 'btrfs'],
] as const)
  test(`rounds on ${fileSystem}`, { skip: !isRoot && 'only root mounts file systems' }, async () => {
    await using room = scratch();
    const path = join(room.path, 'pool');
    mkdirSync(path);
    await using _mounted = await mountFileSystem(fileSystem, 512, path);
    await using agent = await TestAgent.start(join(room.path, 'state'));
    await agent.ok('POST', '/pools', { name: 'p', type, target: { path } });
    await agent.ok('POST', '/pools/p/start');
    const snapshots = type === 'btrfs';
    await leaksNothing(
      agent,
      { name: fileSystem, format: 'raw', share: snapshots ? 0.02 : 0.1, snapshots, map: true },
      path,
    );
  });
