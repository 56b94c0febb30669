import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { HostServices } from '../../agent/backends/backend.ts';
import { MemoryImage, Pages } from '../../agent/images/memory-image.ts';
import { OpenPool } from '../../agent/pools/open-pool.ts';
import { BlockPool } from '../../agent/volumes/blocks/block-pool.ts';
import type { Device, MakingStorage } from '../../agent/volumes/blocks/device-storage.ts';
import { scratch } from '../support/scratch.ts';

const CAPACITY_BYTES = 1 << 20;

/** Devices that several hosts have, by their names and uids alone. */
class SharedDevices implements MakingStorage {
  readonly name = 'shared';
  readonly type = 'block';
  readonly hasGlobalId = true;
  readonly readsAsZeros = true;
  readonly uids = new Map<string, string>();
  /** Runs once, right before a device gets another name. */
  beforeRename: (() => void) | undefined;
  /** As for an agent that was killed: nothing that it asks for is done any more. */
  isDead = false;

  async attach(): Promise<void> {}
  async detach(): Promise<void> {}
  checkName(): void {}

  async space() {
    return { id: 'shared', capacityBytes: 1 << 30, availableBytes: 1 << 30, allocationBytes: 0 };
  }

  async devices(name?: string): Promise<Device[]> {
    this.#refuseDead();
    const all = [...this.uids].filter(([each]) => name === undefined || each === name);
    return all.map(([each, uid]) => ({
      ...{ name: each, uid, path: `/dev/${each}`, mark: uid, open: false, dependants: [] },
      ...{ sizeBytes: CAPACITY_BYTES, allocationBytes: CAPACITY_BYTES },
    }));
  }

  async open(): Promise<MemoryImage> {
    return new MemoryImage(new Pages(CAPACITY_BYTES));
  }

  async create(name: string): Promise<void> {
    this.uids.set(name, `made as ${name}`);
  }

  async grow(): Promise<void> {}
  async shrink(): Promise<void> {}

  async rename(from: string, to: string): Promise<void> {
    this.#refuseDead();
    const before = this.beforeRename;
    this.beforeRename = undefined;
    before?.();
    this.uids.set(to, this.uids.get(from)!);
    this.uids.delete(from);
    this.isDead = before !== undefined;
  }

  async remove(name: string): Promise<void> {
    this.#refuseDead();
    this.uids.delete(name);
  }

  #refuseDead(): void {
    if (this.isDead) throw new Error('the agent was killed');
  }
}

test('a volume of another host that a killed one has moved into its trash is no volume of that, and stays', async () => {
  await using room = scratch();
  const storage = new SharedDevices();
  const state = join(room.path, 'state');
  mkdirSync(state);
  const services: HostServices = {
    ...{ agentId: 'one', ownsStorage: true, alone: (work) => work() },
    ...{ stateDirectory: async () => state, imageDirectories: () => [], secret: () => '' },
  };
  const start = async (): Promise<OpenPool> => {
    const pool = new OpenPool(new BlockPool(storage, services, 'p'));
    await pool.start();
    return pool;
  };
  const id = '0123456789ab';
  storage.uids.set('v', 'ours');
  const pool = await start();
  const { etag } = await pool.look('v');
  storage.beforeRename = () => storage.uids.set('v', 'of another host');
  await assert.rejects(pool.trash('v', id, etag), /was killed|by now/);
  pool.close();
  storage.isDead = false;

  const again = await start();
  assert.deepEqual(await again.trashed(), []);
  await assert.rejects(again.wipeTrashed(id, 0, 0), { code: 'volume-not-found' });
  await assert.rejects(again.restore(id, 'v', { id: randomUUID(), format: 'raw' }), {
    code: 'volume-not-found',
  });
  await again.purge(id);
  assert.deepEqual([...storage.uids.values()], ['of another host']);
  const [orphan] = await again.orphans();
  assert.match(orphan!.what, /another host/);
  // What went there as it should goes on its way.
  storage.uids.set('w', 'ours too');
  await again.refresh();
  await again.trash('w', id.replace('0', 'f'), (await again.look('w')).etag);
  assert.deepEqual(await again.trashed(), [id.replace('0', 'f')]);
  await again.purge(id.replace('0', 'f'));
  assert.deepEqual([...storage.uids.values()], ['of another host']);
  await again.stop();
});
