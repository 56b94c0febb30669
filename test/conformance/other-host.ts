import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { HostServices } from '../../agent/backends/backend.ts';
import type { OpenPool } from '../../agent/pools/open-pool.ts';
import type { BlockPool } from '../../agent/volumes/blocks/block-pool.ts';
import { FreezingHost } from '../support/freezing.ts';
import { scratch } from '../support/scratch.ts';

const CAPACITY_BYTES = 8 << 20;
/** More changes than any operation makes. */
const MOST_STEPS = 12;

/** Storage of devices that several hosts have, with what another of them does to it. */
export interface SharedStorage {
  name: string;
  open(services: HostServices): BlockPool;
  /** It has bases, and snapshots. */
  thin: boolean;
  make(volume: string, bytes: Buffer): void;
  remove(volume: string): void;
  /** As Proxmox VE takes one: what says that it is a snapshot of the volume is its name alone. */
  snapshot?(volume: string, id: string): void;
  /** What a volume begins with. */
  read(volume: string, bytes: number): Buffer;
  /** The names of all that is in it. */
  names(): string[];
}

/** udev looks into what was written to, and has it open for that long. */
async function stop(pool: OpenPool): Promise<void> {
  for (let tries = 1; ; tries++)
    try {
      return await pool.stop();
    } catch (error) {
      if (tries === 20) throw error;
      await sleep(200);
    }
}

type Change = (pool: OpenPool) => Promise<unknown>;

/** What must hold on storage of devices that has no lock between hosts, whenever one of them freezes. */
export function testOtherHost(storage: SharedStorage): void {
  const make = (text: string): void => storage.make('v', Buffer.from(text.padEnd(4096)));
  const read = (name: string): string => storage.read(name, 3).toString('latin1');
  const isThere = (name: string): boolean => storage.names().includes(name);
  const removeAll = (...names: string[]): void => {
    const isOne = (name: string): boolean => names.includes(name) || name.startsWith('snap_v_');
    for (const name of storage.names().filter(isOne)) storage.remove(name);
  };

  /** The host freezes before each of its changes in turn, while another one makes another volume of the name. */
  const atEachStep = (
    what: string,
    change: Change,
    ready: Change = async () => {},
    takesSnapshot = false,
  ): void =>
    void test(`${storage.name}: ${what}, frozen at each step while another host takes the name`, async () => {
      await using room = scratch();
      const host = await FreezingHost.start(room.path, 'one', storage.open);
      const { pool } = host;
      try {
        for (let step = 0, froze = true; froze; step++) {
          assert.ok(step < MOST_STEPS, 'it makes ever more changes');
          make('old');
          await pool.refresh();
          await ready(pool);
          const ended = await host.freeze(
            () => change(pool),
            async () => {
              removeAll('v');
              make('new');
              if (takesSnapshot) storage.snapshot?.('v', 's');
            },
            step,
          );
          froze = ended.froze;
          const say = `step ${step}: ${ended.outcome}`;
          const refused = ['volume-changed', 'volume-exists', 'volume-not-found', 'snapshot-not-found'];
          assert.ok((froze ? ['done', ...refused] : ['done']).includes(ended.outcome), say);
          assert.ok(froze || step > 0, 'it makes no change that it could freeze before');
          assert.equal(read('v'), 'new', say);
          // What was made of the old volume holds that, or is not there.
          if (isThere('w')) assert.equal(read('w'), 'old', say);
          await pool.refresh();
          const now = await pool.look('v');
          assert.deepEqual([now.isBase ?? false, now.capacityBytes], [false, CAPACITY_BYTES], say);
          assert.equal(now.snapshotCount, takesSnapshot ? 1 : 0, say);
          removeAll('v', 'w');
        }
        for (const id of await pool.trashed()) await pool.purge(id);
        assert.deepEqual(storage.names(), [], 'nothing is left aside');
      } finally {
        await stop(pool);
      }
    });

  atEachStep('made smaller', (pool) => pool.resize('v', CAPACITY_BYTES / 2, true));
  const wanted = { name: 'v', capacityBytes: CAPACITY_BYTES, format: 'raw', preallocate: false } as const;
  atEachStep(
    'alloc',
    (pool) => pool.create(wanted),
    (pool) => pool.remove('v'),
  );
  if (!storage.thin) {
    atEachStep('free', (pool) => pool.remove('v'));
    return;
  }
  atEachStep('into the trash', async (pool) => {
    await pool.trash('v', '0123456789ab', (await pool.look('v')).etag);
  });
  atEachStep('deletion', (pool) => pool.remove('v'));
  atEachStep(
    'deletion of a snapshot',
    (pool) => pool.deleteSnapshot('v', 's'),
    (pool) => pool.createSnapshot('v', 's'),
    true,
  );
  atEachStep('full clone', (pool) => pool.clone('v', 'w'));
  atEachStep('base', (pool) => pool.setBase('v', true));
  atEachStep(
    'linked clone',
    (pool) => pool.cloneLinked('v', 'w'),
    (pool) => pool.setBase('v', true),
  );
  atEachStep(
    'linked clone of a snapshot',
    (pool) => pool.cloneLinked('v', 'w', 's'),
    (pool) => pool.createSnapshot('v', 's'),
  );
}
