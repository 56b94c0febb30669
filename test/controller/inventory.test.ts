import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { describe, test } from 'node:test';
import { sql } from 'kysely';
import { EventLog } from '../../controller/events/event-log.ts';
import { Inventory } from '../../controller/inventory/inventory.ts';
import { InventoryWriter } from '../../controller/inventory/inventory-writer.ts';
import { VolumeReader } from '../../controller/store/repositories/volumes.ts';
import { poolDefinitionSchema } from '../../shared/conf/pool.ts';
import { type Volume, volumeSchema } from '../../shared/conf/volume.ts';
import type { AgentEvent } from '../../shared/protocol/agent.ts';
import { STORES, type TestStore } from '../support/stores.ts';

const host = { id: 'id-of-h', name: 'h' };

async function openRoom(kind: TestStore) {
  const { open } = await kind.create();
  const store = await open();
  await store.transaction(({ hosts }) =>
    hosts.insert({
      ...host,
      address: { kind: 'local', socket: '/agent' },
      state: 'reachable',
      since: 0,
      createdAt: 0,
    }),
  );
  const events = new EventLog(store);
  const inventory = new Inventory(store, events);
  const writer = new InventoryWriter(store, events);
  let seen = await events.last();
  return {
    store,
    inventory,
    writer,
    /** What was told since this was last asked. */
    async told() {
      const changes = await store.events.after(seen, 1000);
      seen = changes.at(-1)?.seq ?? seen;
      return changes.map((change) =>
        Object.values({ ...change, seq: '' })
          .join(' ')
          .trim(),
      );
    },
    tell: async (...told: AgentEvent[]) => {
      for (const event of told) await writer.apply(host, event);
    },
    names: async () => (await inventory.volumes({ host: 'h', limit: 1000 })).map(({ name }) => name),
    [Symbol.asyncDispose]: () => store.close(),
  };
}

const volume = (name: string, more: Partial<Volume> = {}): Volume =>
  volumeSchema.parse({
    id: randomUUID(),
    name,
    type: 'file',
    format: 'raw',
    path: `/srv/${name}`,
    capacityBytes: 1,
    allocationBytes: 0,
    snapshotCount: 0,
    etag: 'x',
    ...more,
  });

const pool = (name: string): AgentEvent => ({
  type: 'pool',
  pool: {
    ...poolDefinitionSchema.parse({
      name,
      uuid: randomUUID(),
      type: 'dir',
      target: { path: `/srv/${name}` },
    }),
    state: 'running',
    since: 1,
    capacityBytes: 1,
    allocationBytes: 0,
    availableBytes: 1,
  },
});

const state = (revision: number) => ({ generation: '7b0c8a52-1d0e-4b6e-9f43-0a5d3f6b2c11', revision });

const listing = (name: string, volumes: Volume[], revision: number): AgentEvent[] => [
  { type: 'volumes-begin', pool: name },
  { type: 'volumes', pool: name, volumes, gone: [] },
  { type: 'volumes-end', pool: name, now: state(revision) },
];

for (const kind of STORES)
  describe(`the inventory on ${kind.name}`, () => {
    test('knows, also after a restart, which state of a pool was told', async () => {
      await using room = await openRoom(kind);
      await room.tell({ type: 'begin', pools: ['p'] }, pool('p'), ...listing('p', [volume('a')], 3));
      assert.deepEqual((await room.writer.known(host.id)).known, { p: state(3) });
      assert.deepEqual(
        (await new InventoryWriter(room.store, new EventLog(room.store)).known(host.id)).known,
        {
          p: state(3),
        },
      );
      // The pool itself is told again and again; that says nothing of its volumes.
      await room.tell(pool('p'));
      assert.deepEqual((await room.writer.known(host.id)).known, { p: state(3) });
      await room.tell({ type: 'pool-gone', pool: 'p' });
      assert.deepEqual((await room.writer.known(host.id)).known, {});
      assert.deepEqual(await room.names(), []);
    });

    test('takes a change in the middle of a listing for no end of it', async () => {
      await using room = await openRoom(kind);
      const [a, b, live] = [volume('a'), volume('b'), volume('live')];
      await room.tell({ type: 'begin', pools: ['p'] }, pool('p'), ...listing('p', [volume('old')], 1));
      await room.tell(
        { type: 'begin', pools: ['p'] },
        { type: 'volumes-begin', pool: 'p' },
        { type: 'volumes', pool: 'p', volumes: [a], gone: [] },
        { type: 'volumes', pool: 'p', volumes: [live], gone: [], now: state(9) },
      );
      // The link is cut here.
      assert.deepEqual((await room.writer.known(host.id)).known, { p: state(1) });
      await room.tell({ type: 'begin', pools: ['p'] }, ...listing('p', [a, b, live], 9));
      assert.deepEqual(await room.names(), ['a', 'b', 'live']);
      assert.deepEqual((await room.writer.known(host.id)).known, { p: state(9) });
    });

    test('tells of what differs, once, and of nothing else', async () => {
      await using room = await openRoom(kind);
      const [a, b] = [volume('a'), volume('b')];
      await room.tell({ type: 'begin', pools: ['p'] }, pool('p'), ...listing('p', [a, b], 1));
      await room.told();
      await room.tell(...listing('p', [a, { ...b, etag: 'y' }], 2));
      assert.deepEqual(await room.told(), ['volume h p b']);
      await room.told();
      // The last word counts where an agent names one twice.
      const twice = [
        { ...a, etag: '1' },
        { ...a, etag: '2' },
      ];
      await room.tell({ type: 'volumes', pool: 'p', volumes: twice, gone: [], now: state(3) });
      assert.deepEqual(await room.told(), ['volume h p a']);
      assert.equal((await room.inventory.volume({ host: 'h', pool: 'p', volume: 'a' })).etag, '2');
    });

    test('lets what was made anew under a name stay when the old one goes', async () => {
      await using room = await openRoom(kind);
      const [old, made] = [volume('a'), volume('a')];
      await room.tell({ type: 'begin', pools: ['p'] }, pool('p'), ...listing('p', [old], 1));
      await room.tell({ type: 'volumes', pool: 'p', volumes: [made], gone: [] });
      await room.told();
      await room.tell({ type: 'volumes', pool: 'p', volumes: [], gone: [{ name: 'a', id: old.id }] });
      assert.deepEqual(await room.told(), []);
      assert.equal((await room.inventory.volume({ host: 'h', pool: 'p', volume: 'a' })).id, made.id);
    });

    test('keeps no volumes of pools that nobody has told of', async () => {
      await using room = await openRoom(kind);
      await room.tell(
        { type: 'begin', pools: [] },
        { type: 'volumes', pool: 'x', volumes: [volume('a')], gone: [] },
      );
      assert.deepEqual(await room.names(), []);
    });

    test('finds each page by the index', {
      skip: kind.name !== 'SQLite' && 'PostgreSQL chooses its plans by what is in the tables',
    }, async () => {
      await using room = await openRoom(kind);
      const plans: string[] = [];
      const base = room.store.db.getExecutor();
      const filters = [
        { after: 'h/p/v5' },
        { host: 'h', after: 'h/p/v5' },
        { host: 'h', pool: 'p', after: 'h/p/v5' },
        { host: 'h', pool: 'p' },
      ];
      const seen: { sql: string; parameters: readonly unknown[] }[] = [];
      const spied = room.store.db.withPlugin({
        transformQuery: ({ node, queryId }) => {
          const compiled = base.compileQuery(node, queryId);
          seen.push({ sql: compiled.sql, parameters: compiled.parameters });
          return node;
        },
        transformResult: async ({ result }) => result,
      });
      for (const filter of filters) await new VolumeReader(spied).list({ ...filter, limit: 100 });
      for (const { sql: text, parameters } of seen) {
        let index = 0;
        const filled = text.replaceAll('?', () => {
          const value = parameters[index++];
          return typeof value === 'number' ? String(value) : `'${value}'`;
        });
        const { rows } = await sql
          .raw<{ detail: string }>(`EXPLAIN QUERY PLAN ${filled}`)
          .execute(room.store.db);
        plans.push(rows.map(({ detail }) => detail).join('; '));
      }
      assert.equal(plans.length, filters.length);
      for (const plan of plans) {
        assert.match(plan, /SEARCH volumes USING INDEX volumes_place/);
        assert.doesNotMatch(plan, /TEMP B-TREE/);
      }
      assert.match(plans[1]!, /host=\? AND \(pool,name\)>/);
      assert.match(plans[2]!, /host=\? AND pool=\? AND name>/);
    });
  });
