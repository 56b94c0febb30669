import assert from 'node:assert/strict';
import { existsSync, statSync } from 'node:fs';
import { describe, test } from 'node:test';
import { type Kysely, sql } from 'kysely';
import { AuditTrail } from '../../controller/audit/trail.ts';
import { HostLabels } from '../../controller/auth/host-labels.ts';
import { Revocations } from '../../controller/auth/revocations.ts';
import { Tokens } from '../../controller/auth/tokens.ts';
import { EventLog } from '../../controller/events/event-log.ts';
import { Leases } from '../../controller/jobs/leases.ts';
import { GroupedWrites } from '../../controller/store/grouped-writes.ts';
import type { HostRecord } from '../../controller/store/repositories/hosts.ts';
import type { Database } from '../../controller/store/schema.ts';
import { openStore, type Store } from '../../controller/store/store.ts';
import { fleetVolumeSchema } from '../../shared/protocol/api.ts';
import { until } from '../support/controller.ts';
import { scratch } from '../support/scratch.ts';
import { STORES } from '../support/stores.ts';

const WRITERS = 4;

/** So many processes, as it were, that work with one store. */
async function many(open: () => Promise<Store>) {
  const stores: Store[] = [];
  for (let index = 0; index < WRITERS; index++) stores.push(await open());
  return {
    stores,
    async [Symbol.asyncDispose]() {
      for (const store of stores) await store.close();
    },
  };
}

const host = (name: string): HostRecord => ({
  ...{ id: `id-${name}`, name, address: { kind: 'websocket' } },
  ...{ state: 'connecting', since: 1, createdAt: 1, labels: [] },
});

for (const kind of STORES)
  describe(`several writers on ${kind.name}`, () => {
    test('make one audit chain', async () => {
      await using room = scratch();
      await using writers = await many((await kind.create()).open);
      const trails = writers.stores.map((store) => new AuditTrail(store, room.path));
      const entry = { actor: 'a', source: 's', action: 'x.y', target: 't', outcome: 'done' as const };
      await Promise.all(
        Array.from({ length: 60 }, (_, index) =>
          trails[index % WRITERS]!.append({ ...entry, detail: String(index) }),
        ),
      );
      const verdict = await trails[0]!.verify();
      assert.deepEqual({ ok: verdict.ok, records: verdict.records }, { ok: true, records: 60 });
    });

    test('give one writer at a time the lease of a volume, with tokens that rise', async () => {
      await using writers = await many((await kind.create()).open);
      const leases = writers.stores.map((store, index) => new Leases(store, `owner${index}`));
      const tokens: number[] = [];
      let held = 0;
      const work = async (index: number): Promise<void> => {
        for (let done = 0; done < 5; ) {
          try {
            await using lease = await leases[index]!.acquire({
              volume: 'h/p/v',
              mode: 'write',
              holder: 'me',
            });
            assert.equal(++held, 1);
            tokens.push(lease.token);
            await new Promise((resolve) => setImmediate(resolve));
            held--;
            done++;
          } catch (error) {
            assert.equal((error as { code?: string }).code, 'volume-in-use', String(error));
            await new Promise((resolve) => setTimeout(resolve, 1));
          }
        }
      };
      await Promise.all(leases.map((_, index) => work(index)));
      assert.equal(tokens.length, 5 * WRITERS);
      for (const [index, token] of tokens.entries()) if (index > 0) assert.ok(token > tokens[index - 1]!);
    });

    test('make one token of a name, and leave the last administrator', async () => {
      await using writers = await many((await kind.create()).open);
      const tokens = writers.stores.map(
        (store) => new Tokens(store, new HostLabels(store), new Revocations()),
      );
      const made = await Promise.allSettled(
        tokens.map((each) => each.create({ name: 'same', role: 'viewer', scopes: [] })),
      );
      assert.equal(made.filter(({ status }) => status === 'fulfilled').length, 1);
      for (let index = 0; index < WRITERS; index++)
        await tokens[0]!.create({ name: `admin${index}`, role: 'admin', scopes: [] });
      // One whose rights end somewhere is no administrator of the whole.
      await tokens[0]!.create({ name: 'of-a-part', role: 'admin', scopes: ['h'] });
      const revoked = await Promise.allSettled(tokens.map((each, index) => each.revoke(`admin${index}`)));
      assert.equal(revoked.filter(({ status }) => status === 'fulfilled').length, WRITERS - 1);
      const left = (await tokens[0]!.list()).filter(({ name }) => name.startsWith('admin'));
      assert.equal(left.length, 1);
    });

    test('number changes so that nobody who follows misses one', async () => {
      await using writers = await many((await kind.create()).open);
      const logs = writers.stores.map((store) => new EventLog(store));
      const stop = new AbortController();
      const seen: number[] = [];
      const following = (async () => {
        for await (const page of logs[0]!.follow(0, stop.signal)) {
          assert.ok(!('lost' in page));
          seen.push(...page.map(({ seq }) => seq));
          if (seen.length >= 200) return;
        }
      })();
      await Promise.all(
        logs.map(async (log, index) => {
          for (let count = 0; count < 50; count++)
            await log.write(async () => [{ type: 'job', job: index * 100 + count }]);
        }),
      );
      await following;
      stop.abort();
      assert.equal(seen.length, 200);
      assert.deepEqual(
        seen,
        [...seen].sort((left, right) => left - right),
      );
    });

    test('an event is there if, and only if, what it tells of is', async () => {
      const { open } = await kind.create();
      await using writers = await many(open);
      const [store] = writers.stores;
      const log = new EventLog(store!);
      await assert.rejects(
        log.write(async ({ hosts, events }) => {
          await hosts.insert(host('a'));
          await events.append([{ type: 'host', host: 'a' }], 1);
          throw new Error('killed here');
        }),
        /killed here/,
      );
      assert.deepEqual([await store!.hosts.list(), await store!.events.after(0, 10)], [[], []]);
    });

    test('names are in the order of their bytes, and numbers are numbers', async () => {
      await using writers = await many((await kind.create()).open);
      const [store, other] = writers.stores;
      const names = ['a', 'B', 'a-b', 'ab', 'é', 'Z', 'a_b'];
      for (const name of names) await store!.transaction(({ hosts }) => hosts.insert(host(name)));
      const bytewise = [...names].sort((left, right) =>
        Buffer.compare(Buffer.from(left), Buffer.from(right)),
      );
      assert.deepEqual(
        (await other!.hosts.list()).map(({ name }) => name),
        bytewise,
      );
      await store!.transaction(({ hosts }) => hosts.setState('id-a', 'reachable', undefined, 2 ** 53 - 1));
      assert.equal((await other!.hosts.byName('a'))?.since, 2 ** 53 - 1);
    });

    test('a reader that has much to catch up with leaves no listeners behind', async () => {
      await using writers = await many((await kind.create()).open);
      const log = new EventLog(writers.stores[0]!);
      const warnings: Error[] = [];
      const warned = (warning: Error): void => void warnings.push(warning);
      process.on('warning', warned);
      await log.write(async () => Array.from({ length: 4000 }, (_, job) => ({ type: 'job' as const, job })));
      const stop = new AbortController();
      let seen = 0;
      for await (const page of log.follow(0, stop.signal)) {
        seen += 'lost' in page ? 0 : page.length;
        assert.ok(log.listenerCount('changed') <= 1);
        if (seen === 4000) break;
      }
      await new Promise((resolve) => setImmediate(resolve));
      process.off('warning', warned);
      assert.deepEqual(warnings, []);
    });

    test('a reader that falls behind what is kept is told so, and goes on', async () => {
      await using writers = await many((await kind.create()).open);
      const [store] = writers.stores;
      const log = new EventLog(store!);
      const write = async (count: number) =>
        log.write(async () => Array.from({ length: count }, (_, job) => ({ type: 'job' as const, job })));
      await write(600);
      const stop = new AbortController();
      const reading = log.follow(0, stop.signal);
      const { value: first } = await reading.next();
      assert.ok(first && !('lost' in first));
      await store!.transaction(({ events }) => events.forget(500, 1000));
      const { value: second } = await reading.next();
      assert.deepEqual(second, { lost: 600 });
      await write(1);
      const { value: third } = await reading.next();
      assert.deepEqual(third, [{ seq: 601, type: 'job', job: 0 }]);
      stop.abort();
    });

    test('old events are forgotten, and who asks for them is told that they are lost', async () => {
      await using writers = await many((await kind.create()).open);
      const [store] = writers.stores;
      const log = new EventLog(store!);
      assert.equal(await log.keeps(0), true);
      for (let count = 0; count < 10; count++) await log.write(async () => [{ type: 'job', job: count }]);
      await store!.transaction(({ events }) => events.forget(6, 100));
      const range = await store!.events.range();
      assert.equal(range!.last - range!.first, 4);
      assert.equal(await log.keeps(range!.first - 2), false);
      assert.equal(await log.keeps(range!.first - 1), true);
      assert.equal(await log.keeps(range!.last), true);
      // The number of another store, or of the time before this one was made anew.
      assert.equal(await log.keeps(range!.last + 1), false);
    });
  });

for (const kind of STORES)
  describe(`a store of an earlier version on ${kind.name}`, () => {
    test('is brought up to date with everything that it has', async () => {
      const { location } = await kind.create();
      const before = await openStore(location, '0004-places-and-revisions');
      const run = (text: string, ...values: unknown[]) => {
        const parts = text
          .split('?')
          .flatMap((part, index) =>
            index === 0 ? [sql.raw(part)] : [sql.val(values[index - 1]), sql.raw(part)],
          );
        return sql.join(parts, sql``).execute(before.db);
      };
      await run(
        `INSERT INTO hosts (id, name, kind, address, state, since, created_at) VALUES ('i', 'h', 'ssh', ?, 'reachable', 1, 1)`,
        JSON.stringify({
          kind: 'ssh',
          user: 'root',
          hostname: 'x',
          port: 22,
          identity: '/key',
          fingerprint: 'SHA256:x',
        }),
      );
      const uuid = 'c0ffee00-0000-4000-8000-000000000001';
      await run(
        `INSERT INTO pools (host_id, name, uuid, type, state, target_path, capacity_bytes, allocation_bytes, available_bytes, autostart)
         VALUES ('i', 'p', ?, 'dir', 'running', '/srv', 3, 2, 1, 0)`,
        uuid,
      );
      await run(
        `INSERT INTO volumes (host_id, host, pool, name, id, type, format, path, capacity_bytes, allocation_bytes, snapshot_count, etag)
         VALUES ('i', 'h', 'p', 'v', ?, 'file', 'raw', '/srv/v', 9007199254740991, 0, 0, 'e')`,
        uuid,
      );
      for (const [state, params] of [
        ['done', { source: 'h/p/v', target: 'g/p/v' }],
        ['waiting', { source: 'h/p/v', target: 'g/p/w' }],
        ['queued', { volume: 'h/p/x' }],
      ] as const)
        await run(
          `INSERT INTO jobs (kind, state, params, notes, done_bytes, total_bytes, wire_bytes, cancel_requested, created_by, created_at, updated_at)
           VALUES ('migrate', ?, ?, '{}', 0, 0, 0, 0, 'me', 1, 1)`,
          state,
          JSON.stringify(params),
        );
      await run(
        `INSERT INTO tokens (id, name, role, hash, created_at) VALUES ('t', 'admin', 'admin', 'x', 1)`,
      );
      await before.close();

      const store = await openStore(location);
      const [host] = await store.hosts.list();
      assert.deepEqual(host?.address.kind === 'ssh' && host.address.identity, '/key');
      const pool = await store.pools.find('h', 'p');
      assert.deepEqual(
        [pool?.uuid, pool?.target.path, pool?.autostart, pool?.availableBytes],
        [uuid, '/srv', false, 1],
      );
      const volume = await store.volumes.find('h', 'p', 'v');
      assert.equal(fleetVolumeSchema.parse(volume).capacityBytes, Number.MAX_SAFE_INTEGER);
      const jobs = await store.jobs.list({ limit: 9 });
      assert.deepEqual(
        jobs.map(({ source, target, owner }) => [source, target, owner]),
        [
          [undefined, 'h/p/x', undefined],
          ['h/p/v', 'g/p/w', undefined],
          ['h/p/v', 'g/p/v', undefined],
        ],
      );
      assert.deepEqual(
        (await store.jobs.unclaimed(2)).map(({ target }) => target),
        ['g/p/w', 'h/p/x'],
      );
      await store.transaction(({ jobs: writer }) => writer.claim(3, 'one', 5));
      assert.deepEqual(
        (await store.jobs.nextQueued('one', 5)).map(({ id }) => id),
        [3],
      );
      assert.deepEqual((await store.tokens.byName('admin'))?.scopes, []);
      await store.close();
    });
  });

test('the log of a SQLite store is moved into the database beside its writers, and gone when it is closed', async () => {
  const [sqlite] = STORES;
  const { location, open } = await sqlite!.create();
  const store = await open();
  const log = new EventLog(store);
  const pad = 'x'.repeat(4000);
  for (let round = 0; round < 40; round++) {
    await log.write(async () => Array.from({ length: 500 }, () => ({ type: 'host' as const, host: pad })));
    if (round % 10 === 0) await new Promise((later) => setTimeout(later, 300));
  }
  await until('the database has it', () => statSync(location).size > 64 << 20);
  await store.close();
  assert.ok(!existsSync(`${location}-wal`));
  const again = await open();
  assert.equal((await again.events.range())?.last, 20_000);
  await again.close();
});

test('what a commit that failed may have kept is not written again', async () => {
  // Cut at this moment by no means that a test has.
  const db = {
    transaction: () => ({
      async execute(work: (db: unknown) => Promise<unknown>) {
        await work(db);
        throw new Error('cut at the commit');
      },
    }),
  };
  const writes = new GroupedWrites(db as unknown as Kysely<Database>, 8);
  const done: string[] = [];
  const ended = await Promise.allSettled(
    ['a', 'b', 'c'].map((name) => writes.add(async () => void done.push(name))),
  );
  assert.deepEqual(done, ['a', 'b', 'c']);
  assert.ok(ended.every(({ status }) => status === 'rejected'));
});

test('a write that fails undoes none of those that share its transaction', async () => {
  const store = await (await STORES[0]!.create()).open();
  const names = ['a', 'b', 'c', 'd'];
  const ended = await Promise.allSettled(
    names.map((name) =>
      store.transaction(async ({ hosts }) => {
        await hosts.insert(host(name));
        if (name === 'c') throw new Error('no');
      }),
    ),
  );
  assert.deepEqual(
    ended.map(({ status }) => status),
    ['fulfilled', 'fulfilled', 'rejected', 'fulfilled'],
  );
  assert.deepEqual(
    (await store.hosts.list()).map(({ name }) => name),
    ['a', 'b', 'd'],
  );
  await store.close();
});
