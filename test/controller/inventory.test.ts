import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { describe, test } from 'node:test';
import { EventLog } from '../../controller/events/event-log.ts';
import { Inventory } from '../../controller/inventory/inventory.ts';
import { InventoryWriter } from '../../controller/inventory/inventory-writer.ts';
import { VolumeReader } from '../../controller/store/repositories/volumes.ts';
import { poolDefinitionSchema } from '../../shared/conf/pool.ts';
import { type Volume, volumeSchema } from '../../shared/conf/volume.ts';
import { type AgentEvent, agentEventSchema } from '../../shared/protocol/agent.ts';
import { formatDomainPlace } from '../../shared/protocol/domain-place.ts';
import { type DomainPlace, type HostDomain, parseDomainPlace } from '../../shared/protocol/domains.ts';
import { plansOf } from '../support/plans.ts';
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
      labels: [],
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

const domain = (name: string, uses: string[]): HostDomain => ({
  ...{ name, origin: 'libvirt', state: 'running', persistent: true, images: [] },
  uses: uses.map((each) => ({ pool: 'p', volume: each, target: 'vda', role: 'disk', through: [] })),
});

const allDomains = (domains: HostDomain[], now: string): AgentEvent[] => [
  { type: 'domains-begin' },
  { type: 'domains', domains, gone: [] },
  { type: 'domains-end', now },
];

for (const kind of STORES)
  describe(`the inventory on ${kind.name}`, () => {
    test('knows, also after a restart, which state of a pool was told', async () => {
      await using room = await openRoom(kind);
      await room.tell({ type: 'begin', pools: ['p'] }, pool('p'), ...listing('p', [volume('a')], 3));
      assert.deepEqual((await room.writer.stateKnownOf(host.id)).known, { p: state(3) });
      assert.deepEqual(
        (await new InventoryWriter(room.store, new EventLog(room.store)).stateKnownOf(host.id)).known,
        {
          p: state(3),
        },
      );
      // The pool itself is told again and again; that says nothing of its volumes.
      await room.tell(pool('p'));
      assert.deepEqual((await room.writer.stateKnownOf(host.id)).known, { p: state(3) });
      await room.tell({ type: 'pool-gone', pool: 'p' });
      assert.deepEqual((await room.writer.stateKnownOf(host.id)).known, {});
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
      assert.deepEqual((await room.writer.stateKnownOf(host.id)).known, { p: state(1) });
      await room.tell({ type: 'begin', pools: ['p'] }, ...listing('p', [a, b, live], 9));
      assert.deepEqual(await room.names(), ['a', 'b', 'live']);
      assert.deepEqual((await room.writer.stateKnownOf(host.id)).known, { p: state(9) });
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

    test('keeps domains with what they use, and tells of what differs', async () => {
      await using room = await openRoom(kind);
      const [a, b] = [volume('a'), volume('b')];
      await room.tell({ type: 'begin', pools: ['p'] }, pool('p'), ...listing('p', [a, b], 1));
      await room.told();
      // What was never told is not known, and is not that there are none.
      assert.equal(await room.inventory.usersOf({ host: 'h', pool: 'p', volume: 'b' }), undefined);
      await room.tell(...allDomains([domain('web', ['a', 'b']), domain('db', ['b'])], 'one'));
      assert.deepEqual(await room.told(), ['domain h libvirt web', 'domain h libvirt db']);
      assert.equal((await room.writer.stateKnownOf(host.id)).domains, 'one');
      const usersOfB = async () => (await room.inventory.usersOf({ host: 'h', pool: 'p', volume: 'b' }))!;
      assert.deepEqual((await usersOfB()).map((user) => user.domain).sort(), ['db', 'web']);
      // What is told again and is so already is no news.
      await room.tell(...allDomains([domain('web', ['a', 'b']), domain('db', ['b'])], 'two'));
      assert.deepEqual(await room.told(), []);
      await room.tell({ type: 'domains', domains: [domain('web', ['a'])], gone: [], now: 'three' });
      assert.deepEqual(await room.told(), ['domain h libvirt web']);
      assert.deepEqual(
        (await usersOfB()).map((user) => user.domain),
        ['db'],
      );
      await room.tell({ type: 'domains', domains: [], gone: [domain('db', [])], now: 'four' });
      assert.deepEqual(await room.told(), ['domain h libvirt db']);
      assert.deepEqual(await usersOfB(), []);
      assert.equal((await room.writer.stateKnownOf(host.id)).domains, 'four');
      // What is not between begin and end is not there; a listing that was cut says nothing.
      await room.tell({ type: 'domains-begin' }, { type: 'domains', domains: [domain('new', [])], gone: [] });
      await room.tell({ type: 'begin', pools: ['p'] });
      assert.equal((await room.inventory.domains({ limit: 10 })).length, 2);
      await room.tell(...allDomains([domain('new', ['a'])], 'five'));
      assert.deepEqual(
        (await room.inventory.domains({ limit: 10 })).map(({ name }) => name),
        ['new'],
      );
      await assert.rejects(room.tell({ type: 'domains-end', now: 'six' }), { code: 'stream-corrupt' });
      await room.store.transaction(({ hosts }) => hosts.remove(host.id));
      assert.deepEqual(await room.store.domains.list({ limit: 10 }), []);
    });

    test('lists domains a page at a time, also those of one name', async () => {
      await using room = await openRoom(kind);
      const names = ['a', 'b/c', 'd', 'd', 'd', 'e'];
      const all = names.map((name, index) => ({
        ...domain(name, []),
        uuid: index === 3 ? randomUUID() : undefined,
        origin: index === 2 ? ('proxmox' as const) : ('libvirt' as const),
      }));
      await room.tell(...allDomains(all, 'one'));
      const seen: string[] = [];
      for (let after: DomainPlace | undefined; ; ) {
        const [next] = await room.inventory.domains({ limit: 1, after });
        if (!next) break;
        seen.push(`${next.name} ${next.origin}`);
        after = parseDomainPlace(formatDomainPlace(next));
      }
      assert.deepEqual(seen, [
        'a libvirt',
        'b/c libvirt',
        'd libvirt',
        'd libvirt',
        'd proxmox',
        'e libvirt',
      ]);
    });

    test('keeps domains apart that have one name, and words that look like one', async () => {
      await using room = await openRoom(kind);
      const [one, other] = [randomUUID(), randomUUID()];
      const twins = [
        { ...domain('web', ['a']), uuid: one },
        { ...domain('web', ['b']), uuid: other },
      ];
      await room.tell({ type: 'begin', pools: ['p'] }, pool('p'), ...listing('p', [volume('a')], 1));
      await room.tell(...allDomains(twins, 'one'));
      await room.told();
      const users = (await room.inventory.usersOf({ host: 'h', pool: 'p', volume: 'a' }))!;
      assert.deepEqual(
        users.map((user) => user.uuid),
        [one],
      );
      await room.tell({ type: 'domains', domains: [], gone: [twins[0]!], now: 'two' });
      assert.deepEqual(await room.told(), [`domain h libvirt web ${one}`]);
      assert.equal(await room.inventory.domain('h', twins[0]!), undefined);
      assert.equal((await room.inventory.domain('h', twins[1]!))?.uuid, other);
      const alike = [
        { ...domain('b c', []), uuid: 'a' },
        { ...domain('c', []), uuid: 'a b' },
      ];
      await room.tell(...allDomains(alike, 'three'));
      assert.equal((await room.inventory.domains({ limit: 10 })).length, 2);
    });

    test('believes no host that tells of more than any has', async () => {
      await using room = await openRoom(kind);
      const many = Array.from({ length: 10_050 }, (_, number) => domain(`d${number}`, []));
      const tellAll = async (): Promise<void> => {
        for (let from = 0; from < many.length; from += 64)
          await room.tell({ type: 'domains', domains: many.slice(from, from + 64), gone: [] });
      };
      await assert.rejects(tellAll(), { code: 'stream-corrupt' });
      assert.ok((await room.store.domains.countOf(host.id)) <= 10_000);
      const large = {
        ...domain('large', []),
        images: [{ target: 'vda', role: 'disk' as const, path: 'x'.repeat(70_000) }],
      };
      await assert.rejects(room.tell({ type: 'domains', domains: [large], gone: [] }), {
        code: 'stream-corrupt',
      });
      assert.equal(
        agentEventSchema.safeParse({ type: 'domains', domains: [{ ...many[0], uuid: '' }], gone: [] })
          .success,
        false,
      );
    });

    test('finds volumes by parts of names, users and age, in order and a page at a time', async () => {
      await using room = await openRoom(kind);
      const at = (seconds: number): Partial<Volume> => {
        const time = `${seconds}.500000000`;
        return { timestamps: { atime: time, mtime: time, ctime: time } };
      };
      const volumes = [
        volume('web-1', at(100)),
        volume('WEB-2', at(200)),
        volume('100%_done', at(300)),
        volume('100x-done'),
        volume('ab'),
      ];
      await room.tell({ type: 'begin', pools: ['p', 'q'] }, pool('p'), pool('q'));
      await room.tell(...listing('p', volumes, 1), ...listing('q', [volume('web-1', at(50))], 1));
      await room.tell(...allDomains([domain('web', ['web-1', 'ab'])], 'one'));
      const found = async (filter: object) =>
        (await room.inventory.volumes({ limit: 10, ...filter })).map(
          ({ pool: place, name }) => `${place}/${name}`,
        );
      assert.deepEqual(await found({ search: 'web' }), ['p/WEB-2', 'p/web-1', 'q/web-1']);
      assert.deepEqual(await found({ search: 'eB-1' }), ['p/web-1', 'q/web-1']);
      assert.deepEqual(await found({ search: '0%_d' }), ['p/100%_done']);
      assert.deepEqual(await found({ search: '%' }), ['p/100%_done']);
      assert.deepEqual(await found({ search: '%_don' }), ['p/100%_done']);
      assert.deepEqual(await found({ search: 'web_1' }), []);
      assert.deepEqual(await found({ search: 'B' }), ['p/WEB-2', 'p/ab', 'p/web-1', 'q/web-1']);
      assert.deepEqual(await found({ search: 'web', pool: 'p', host: 'h' }), ['p/WEB-2', 'p/web-1']);
      assert.deepEqual(await found({ search: 'web', limit: 1 }), ['p/WEB-2']);
      assert.deepEqual(await found({ search: 'web', after: 'h/p/WEB-2' }), ['p/web-1', 'q/web-1']);
      assert.deepEqual(await found({ search: 'web', scopes: ['h/q'] }), ['q/web-1']);
      assert.deepEqual(await found({ search: "'; drop table volumes" }), []);
      assert.deepEqual(await found({ user: 'web' }), ['p/ab', 'p/web-1']);
      assert.deepEqual(await found({ user: 'web', search: 'web' }), ['p/web-1']);
      assert.deepEqual(await found({ user: 'nobody' }), []);
      assert.deepEqual(await found({ modifiedBefore: 200_000 }), ['p/web-1', 'q/web-1']);
      assert.deepEqual(await found({ modifiedAfter: 100_500 }), ['p/100%_done', 'p/WEB-2']);
      assert.deepEqual(await found({ modifiedAfter: 60_000, modifiedBefore: 250_000 }), [
        'p/WEB-2',
        'p/web-1',
      ]);
      // A name that no volume has any more is found no more, and forgotten.
      await room.tell(...listing('q', [], 2), ...listing('p', volumes.slice(1), 2));
      assert.deepEqual(await found({ search: 'web' }), ['p/WEB-2']);
      await room.writer.forgetUnusedNames();
      const names = await room.store.db.selectFrom('volume_names').select('name').orderBy('name').execute();
      assert.deepEqual(
        names.map(({ name }) => name),
        ['100%_done', '100x-done', 'WEB-2', 'ab'],
      );
      await room.tell(...listing('q', [volume('web-1')], 3));
      assert.deepEqual(await found({ search: 'web' }), ['p/WEB-2', 'q/web-1']);
    });

    test('finds the same where many match as where few do', async () => {
      await using room = await openRoom(kind);
      await room.tell({ type: 'begin', pools: ['p'] }, pool('p'), { type: 'volumes-begin', pool: 'p' });
      const all = Array.from({ length: 12_000 }, (_, number) => volume(`vm-${100_000 + number}-disk`));
      for (let from = 0; from < all.length; from += 250)
        await room.tell({ type: 'volumes', pool: 'p', volumes: all.slice(from, from + 250), gone: [] });
      await room.tell({ type: 'volumes-end', pool: 'p', now: state(1) });
      const names = async (search: string, after?: string) =>
        (await room.inventory.volumes({ search, after, limit: 2 })).map(({ name }) => name);
      assert.deepEqual(await names('disk'), ['vm-100000-disk', 'vm-100001-disk']);
      assert.deepEqual(await names('DISK', 'h/p/vm-111997-disk'), ['vm-111998-disk', 'vm-111999-disk']);
      assert.deepEqual(await names('11999'), ['vm-111999-disk']);
      // Of these the walk finds few, the last at the end, or none.
      assert.deepEqual(await names('99'), ['vm-100099-disk', 'vm-100199-disk']);
      assert.deepEqual(await names('zz'), []);
      assert.deepEqual(await names('99', 'h/p/vm-111990-disk'), ['vm-111991-disk', 'vm-111992-disk']);
      assert.equal((await room.inventory.pool('h', 'p')).volumeCount, 12_000);
    });

    test('knows how many volumes a pool has without counting', async () => {
      await using room = await openRoom(kind);
      const count = async () => (await room.inventory.pool('h', 'p')).volumeCount;
      const [a, b, c] = [volume('a'), volume('b'), volume('c')];
      await room.tell({ type: 'begin', pools: ['p'] }, pool('p'), ...listing('p', [a, b], 1));
      assert.equal(await count(), 2);
      await room.tell({ type: 'volumes', pool: 'p', volumes: [a, { ...b, etag: 'y' }, c, c], gone: [] });
      assert.equal(await count(), 3);
      // One that is not there takes nothing away.
      const gone = [
        { name: 'a', id: a.id },
        { name: 'a', id: a.id },
        { name: 'b', id: randomUUID() },
      ];
      await room.tell({ type: 'volumes', pool: 'p', volumes: [], gone });
      assert.equal(await count(), 2);
      await room.tell(pool('p'), ...listing('p', [c], 2));
      assert.equal(await count(), 1);
      assert.deepEqual(await room.inventory.poolTotals(['h/p']), {
        ...{ byState: { running: 1 }, volumeCount: 1 },
        ...{ capacityBytes: 1, allocationBytes: 0, availableBytes: 1 },
      });
      assert.equal((await room.inventory.poolTotals(['other'])).volumeCount, 0);
    });

    test('finds each page by the index', {
      skip: kind.name !== 'SQLite' && 'PostgreSQL chooses its plans by what is in the tables',
    }, async () => {
      await using room = await openRoom(kind);
      const filters = [
        { after: 'h/p/v5' },
        { host: 'h', after: 'h/p/v5' },
        { host: 'h', pool: 'p', after: 'h/p/v5' },
        { host: 'h', pool: 'p' },
      ];
      const plans = await plansOf(room.store.db, async (db) => {
        for (const filter of filters) await new VolumeReader(db).list({ ...filter, limit: 100 });
      });
      assert.equal(plans.length, filters.length);
      for (const plan of plans) {
        assert.match(plan, /SEARCH volumes USING INDEX volumes_place/);
        assert.doesNotMatch(plan, /TEMP B-TREE/);
      }
      assert.match(plans[1]!, /host=\? AND \(pool,name\)>/);
      assert.match(plans[2]!, /host=\? AND pool=\? AND name>/);
    });
  });
