import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import type { AuditTrail } from '../../controller/audit/trail.ts';
import type { Fleet } from '../../controller/hosts/fleet.ts';
import { Collector } from '../../controller/jobs/collector.ts';
import type { JobRunner } from '../../controller/jobs/runner.ts';
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
function collectorOf(expired: unknown[], refused: readonly string[] = [], jobs: readonly object[] = []) {
  const asked: string[] = [];
  const submitted: unknown[] = [];
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
    store: { jobs: { unended: async () => [], list: async () => jobs } } as unknown as Store,
    jobs: {
      submit: async (kind: { kind: string }, params: object) =>
        void submitted.push({ kind: kind.kind, ...params }),
    } as unknown as JobRunner,
    fleet: { client: async () => agent } as unknown as Fleet,
    audit: {
      append: async ({ action, target, outcome, detail }: Record<string, string>) =>
        void records.push(`${action} ${target} ${outcome} ${detail?.split(',')[0]}`),
    } as unknown as AuditTrail,
  });
  return { collector, asked, submitted, records, [Symbol.dispose]: () => collector.close() };
}

test('what is to be overwritten is given to a job, once, and goes when it is', async () => {
  const [unwiped, begun, wiped] = ['aaaaaaaaaaaa', 'bbbbbbbbbbbb', 'cccccccccccc'].map((id) =>
    trashed(id, 1),
  );
  const job = { kind: 'free', params: { volume: 'alpha/data/v', id: 'bbbbbbbbbbbb' } };
  const all = [
    { ...unwiped!, trashed: { ...unwiped!.trashed, wiped: { doneBytes: 0, limitBytesPerSecond: 5 } } },
    { ...begun!, trashed: { ...begun!.trashed, wiped: { doneBytes: 1, totalBytes: 2 } } },
    { ...wiped!, trashed: { ...wiped!.trashed, wiped: { doneBytes: 2, totalBytes: 2 } } },
  ];
  using room = collectorOf(all, [], [job]);
  await room.collector.collect('alpha');
  assert.deepEqual(room.asked, ['/v1/pools/data/trash/cccccccccccc']);
  const [volume] = room.submitted as { volume: string }[];
  assert.match(volume!.volume, /^alpha\/data\//);
  assert.deepEqual(room.submitted, [
    { kind: 'free', volume: volume!.volume, id: 'aaaaaaaaaaaa', limitBytesPerSecond: 5 },
  ]);
});

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
