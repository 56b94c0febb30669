import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import type { AuditTrail } from '../../controller/audit/trail.ts';
import type { Fleet } from '../../controller/hosts/fleet.ts';
import { Collector } from '../../controller/jobs/collector.ts';
import type { Store } from '../../controller/store/store.ts';

const trashed = (id: string, keepUntil: number) => ({
  pool: 'data',
  trashed: {
    id,
    keepUntil,
    trashedAt: 0,
    volume: {
      id: randomUUID(),
      name: `was-${id}`,
      type: 'file',
      path: '/p/v',
      format: 'raw',
      capacityBytes: 1,
      allocationBytes: 1,
      snapshotCount: 0,
      etag: 'e',
    },
  },
});

/** A collector of one host, whose agent answers so. */
function collectorOf(expired: unknown[], refused: readonly string[] = []) {
  const asked: string[] = [];
  const records: string[] = [];
  const agent = {
    json: async (schema: { parse(value: unknown): unknown }, path: string) =>
      schema.parse(path === '/v1/trash/expired' ? expired : []),
    async send(path: string) {
      asked.push(path);
      if (refused.some((id) => path.endsWith(id))) throw new Error('in use');
    },
  };
  const collector = new Collector({
    store: { jobs: { unended: async () => [] } } as unknown as Store,
    fleet: { client: async () => agent } as unknown as Fleet,
    audit: {
      append: async ({ action, target, outcome, detail }: Record<string, string>) =>
        void records.push(`${action} ${target} ${outcome} ${detail?.split(',')[0]}`),
    } as unknown as AuditTrail,
  });
  return { collector, asked, records, [Symbol.dispose]: () => collector.close() };
}

test('what was kept as long as asked for is deleted, each on record, and a refusal keeps no other', async () => {
  using room = collectorOf([trashed('aaaaaaaaaaaa', 1), trashed('bbbbbbbbbbbb', 1)], ['aaaaaaaaaaaa']);
  await room.collector.collect('alpha');
  // Which of them comes first is chance.
  assert.deepEqual(room.asked.sort(), [
    '/v1/pools/data/trash/aaaaaaaaaaaa',
    '/v1/pools/data/trash/bbbbbbbbbbbb',
  ]);
  assert.deepEqual(room.records.sort(), [
    'trash.purge alpha/data begun aaaaaaaaaaaa',
    'trash.purge alpha/data begun bbbbbbbbbbbb',
    'trash.purge alpha/data done bbbbbbbbbbbb',
    'trash.purge alpha/data failed aaaaaaaaaaaa',
  ]);
});

test('a host whose clock is ahead gets nothing deleted before its time', async () => {
  using room = collectorOf([trashed('aaaaaaaaaaaa', Date.now() + 60_000)]);
  await room.collector.collect('alpha');
  assert.deepEqual(room.asked, []);
  assert.deepEqual(room.records, []);
});

test('what cannot go hides nothing that can', async () => {
  const stuck = Array.from({ length: 150 }, (_, index) => trashed(index.toString(16).padStart(12, '0'), 1));
  using room = collectorOf(
    [...stuck, trashed('cccccccccccc', 1)],
    stuck.map((each) => each.trashed.id),
  );
  for (let look = 0; look < 30 && !room.asked.some((path) => path.endsWith('cccccccccccc')); look++)
    await room.collector.collect('alpha');
  assert.ok(room.asked.some((path) => path.endsWith('cccccccccccc')));
});

test('an agent that makes up addresses gets none of them asked for', async () => {
  using room = collectorOf([trashed('../../volumes/good', 1)]);
  await room.collector.collect('alpha');
  assert.deepEqual(room.asked, []);
});
