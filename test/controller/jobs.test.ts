import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { Attention } from '../../controller/attention/items.ts';
import { AuditTrail } from '../../controller/audit/trail.ts';
import { EventLog } from '../../controller/events/event-log.ts';
import type { Fleet } from '../../controller/hosts/fleet.ts';
import type { Inventory } from '../../controller/inventory/inventory.ts';
import type { JobKind } from '../../controller/jobs/job.ts';
import { JobRunner } from '../../controller/jobs/runner.ts';
import type { Passphrases } from '../../controller/secrets/passphrases.ts';
import { JobReader } from '../../controller/store/repositories/jobs.ts';
import { Store } from '../../controller/store/store.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { until } from '../support/controller.ts';
import { plansOf } from '../support/plans.ts';
import { scratch } from '../support/scratch.ts';
import { STORES } from '../support/stores.ts';

/** A volume of which it is not known on which storage it is. */
const leased = (volume: string) => ({ volume, object: volume });

const paramsSchema = z.object({ source: z.string().optional(), target: z.string() });
type Params = z.infer<typeof paramsSchema>;

/** A kind of job that notes what it does. `work` is the step before the commit. */
function kindOf(
  log: string[],
  work: (params: Params, signal: AbortSignal) => Promise<void> = async () => undefined,
) {
  const kind: JobKind<Params, { seen: number }> = {
    kind: 'test',
    params: paramsSchema,
    places: (params) => params,
    leases: ({ source, target }) => [
      ...(source === undefined ? [] : [{ volume: source, mode: 'read' as const }]),
      { volume: target, mode: 'write' },
    ],
    steps: [
      {
        name: 'work',
        async run(context) {
          log.push(`work ${context.params.target}`);
          context.notes.seen = 1;
          await context.save();
          await work(context.params, context.signal);
        },
      },
      { name: 'commit', run: async ({ params }) => void log.push(`commit ${params.target}`) },
    ],
    commitStep: 'commit',
    undo: async ({ params }) => void log.push(`undo ${params.target}`),
  };
  return kind;
}

function runnerOn(
  store: Store,
  directory: string,
  kind: JobKind<Params, never>,
  owner = 'one',
  jobsPerHost = 2,
) {
  const events = new EventLog(store);
  const audit = new AuditTrail(store, directory);
  // No step of these jobs asks for any of them.
  const nobody = {} as Fleet & Inventory & Passphrases;
  const runner = new JobRunner({
    store,
    events,
    audit,
    fleet: nobody,
    inventory: nobody,
    passphrases: nobody,
    owner,
    jobsPerHost,
    carried: () => undefined,
  });
  runner.register(kind);
  return runner;
}

/** A store whose process dies before its statement number `n`: that one and all after it fail. */
function dyingAt(store: Store, n: number): { store: Store; statements(): number } {
  let count = 0;
  const db = store.db.withPlugin({
    transformQuery({ node }) {
      if (++count >= n) throw new Error('killed');
      return node;
    },
    transformResult: async ({ result }) => result,
  });
  return { store: new Store(db), statements: () => count };
}

const asKind = (kind: ReturnType<typeof kindOf>) => kind as unknown as JobKind<Params, never>;

for (const each of STORES)
  describe(`jobs on ${each.name}`, () => {
    test('a kill before any statement of submit, steps and end leaves a job that ends, or none', async (context) => {
      await using room = scratch();
      const whole = await (await each.create()).open();
      const counted = dyingAt(whole, Number.POSITIVE_INFINITY);
      const first = runnerOn(counted.store, room.path, asKind(kindOf([])));
      await first.start();
      const { id } = await first.submit(kindOf([]), { source: 'a/p/v', target: 'b/p/v' }, 'me');
      await until('it is done', async () => (await first.get(id)).state === 'done');
      await first.close();
      const total = counted.statements();
      await whole.close();
      context.diagnostic(`${total} statements`);
      assert.ok(total > 20);

      const { open } = await each.create();
      const store = await open();
      let before = 0;
      for (let n = 1; n <= total; n++) {
        const dying = dyingAt(store, n);
        const log: string[] = [];
        const killed = runnerOn(dying.store, room.path, asKind(kindOf(log)));
        const target = `b/p/${n}`;
        const submitted = await killed
          .start()
          .then(() => killed.submit(kindOf(log), { source: 'a/p/v', target }, 'me'))
          .catch(() => undefined);
        await until(
          'nothing more is done',
          () => dying.statements() >= n || log.includes(`commit ${target}`),
        );
        await killed.close();

        const again = runnerOn(store, room.path, asKind(kindOf(log)));
        await again.start();
        const jobs = (await again.list({ limit: 1000 })).filter((job) => job.target === target);
        assert.ok(jobs.length <= 1, `${jobs.length} jobs after a kill at ${n}`);
        if (submitted) assert.equal(jobs.length, 1, `it was answered, and is lost after a kill at ${n}`);
        for (const job of jobs)
          await until(`it ends after a kill at ${n}`, async () => (await again.get(job.id)).state === 'done');
        await again.close();
        assert.equal(
          (await store.leases.of(leased('a/p/v'))).length + (await store.leases.of(leased(target))).length,
          0,
          `leases after ${n}`,
        );
        const records = (await store.audit.list(1000, { after: before })).filter(
          (record) => record.target === target,
        );
        assert.equal(records.length, jobs.length, `records of its end after a kill at ${n}`);
        before = (await store.audit.last())?.seq ?? 0;
      }
      assert.equal((await new AuditTrail(store, room.path).verify()).ok, true);
      await store.close();
    });

    test('no more than so many work on a host, the older first, and each tells its place', async () => {
      await using room = scratch();
      const store = await (await each.create()).open();
      const log: string[] = [];
      let working = 0;
      let most = 0;
      const release = Promise.withResolvers<void>();
      const kind = kindOf(log, async () => {
        most = Math.max(most, ++working);
        await release.promise;
        await sleep(5);
        working--;
      });
      const runner = runnerOn(store, room.path, asKind(kind));
      await runner.start();
      const jobs = [];
      for (let index = 0; index < 10; index++)
        jobs.push(await runner.submit(kind, { source: `a/p/${index}`, target: `b${index}/p/v` }, 'me'));
      const other = await runner.submit(kind, { target: 'elsewhere/p/v' }, 'me');
      await until('three work', () => log.length === 3);
      assert.deepEqual(log, ['work b0/p/v', 'work b1/p/v', 'work elsewhere/p/v']);
      const states = await Promise.all(jobs.map(async ({ id }) => await runner.get(id)));
      assert.deepEqual(
        states.map(({ state, queuePosition }) => `${state} ${queuePosition ?? ''}`.trim()),
        ['running', 'running', ...[2, 3, 4, 5, 6, 7, 8, 9].map((place) => `queued ${place}`)],
      );
      release.resolve();
      await until(
        'all are done',
        async () => (await runner.list({ limit: 20, state: 'done' })).length === 11,
      );
      assert.ok(most <= 3, `${most} at once`);
      // Two that get their turns together may begin their work in either order.
      const ended = await Promise.all(jobs.map(({ id }) => runner.get(id)));
      const starts = ended.map(({ startedAt }) => startedAt!);
      assert.deepEqual(
        starts,
        [...starts].sort((left, right) => left - right),
      );
      assert.equal((await runner.get(other.id)).state, 'done');
      await runner.close();
      await store.close();
    });

    test('lists of jobs pass no more of them than they show', {
      skip: each.name !== 'SQLite' && 'PostgreSQL chooses its plans by what is in the tables',
    }, async () => {
      const store = await (await each.create()).open();
      const filters = [
        { state: 'failed' as const, isUndismissed: true },
        { state: 'failed' as const },
        { state: 'done' as const, before: 7 },
        {},
      ];
      const plans = await plansOf(store.db, async (db) => {
        for (const filter of filters) await new JobReader(db).list({ ...filter, limit: 50 });
      });
      assert.match(plans[0]!, /USING INDEX jobs_dismissed \(state=\? AND dismissed_at=\?\)/);
      for (const plan of plans) assert.doesNotMatch(plan, /TEMP B-TREE/);
      await store.close();
    });

    test('a failed job wants attention until it is dismissed, or begun again; no other is dismissed', async () => {
      await using room = scratch();
      const store = await (await each.create()).open();
      let isFull = true;
      const kind = kindOf([], async () => {
        if (isFull) throw new StowageError('no-space', 'the pool is full');
      });
      const runner = runnerOn(store, room.path, asKind(kind));
      await runner.start();
      const attention = new Attention(store);
      const wanting = async () => (await attention.items([])).map(({ job }) => job);
      const ended = async (id: number) => {
        await until('it has ended', async () => (await runner.get(id)).endedAt !== undefined);
        return id;
      };
      const submit = async () => ended((await runner.submit(kind, { target: 'b/p/v' }, 'me')).id);

      const [first, second] = [await submit(), await submit()];
      assert.deepEqual(await wanting(), [second, first]);
      const [, item] = await attention.items([]);
      assert.equal(await attention.end(item!), 'aged', 'it is only left out of the list');
      const { dismissedAt } = await runner.dismiss(first);
      assert.ok(dismissedAt !== undefined);
      assert.equal(await attention.end(item!), 'over');
      assert.deepEqual(await wanting(), [second]);
      assert.equal((await runner.dismiss(first)).dismissedAt, dismissedAt, 'when it was dismissed first');

      isFull = false;
      const third = await ended((await runner.retry(second, 'me', false)).id);
      assert.equal((await runner.get(third)).state, 'done');
      assert.deepEqual(await wanting(), []);
      await assert.rejects(runner.dismiss(third), { code: 'job-state' });
      await assert.rejects(runner.dismiss(third + 1), { code: 'job-not-found' });
      await runner.close();
      await store.close();
    });

    test('a paused job keeps what it holds, gives its place away, and goes on', async () => {
      await using room = scratch();
      const store = await (await each.create()).open();
      const log: string[] = [];
      let isSlow = true;
      const kind = kindOf(log, async (_params, signal) => {
        if (isSlow) await sleep(60_000, undefined, { signal });
      });
      const runner = runnerOn(store, room.path, asKind(kind), 'one', 1);
      await runner.start();
      const paused = await runner.submit(kind, { target: 'h/p/1' }, 'me');
      const queued = await runner.submit(kind, { target: 'h/p/2' }, 'me');
      await until('it works', () => log.includes('work h/p/1'));
      assert.equal((await runner.pause(paused.id)).state, 'paused');
      assert.equal((await store.leases.of(leased('h/p/1'))).length, 1);
      // Over a restart too.
      await until('the next one works', () => log.includes('work h/p/2'));
      await runner.close();
      const again = runnerOn(store, room.path, asKind(kind), 'one', 1);
      await again.start();
      const begun = () => log.filter((words) => words === 'work h/p/2').length;
      await until('the next one works again', () => begun() === 2);
      assert.equal((await again.get(paused.id)).state, 'paused');
      await assert.rejects(again.resume(queued.id), { code: 'job-state' });
      isSlow = false;
      await again.cancel(queued.id);
      assert.equal((await again.get(queued.id)).state, 'cancelled');
      await again.resume(paused.id);
      await until('it is done', async () => (await again.get(paused.id)).state === 'done');
      assert.deepEqual(log.slice(-2), ['work h/p/1', 'commit h/p/1']);
      // One that waits for its turn, and one that stands still, can be cancelled as well.
      isSlow = true;
      const [first, second] = [
        await again.submit(kind, { target: 'h/p/3' }, 'me'),
        await again.submit(kind, { target: 'h/p/4' }, 'me'),
      ];
      assert.equal((await again.pause(second.id)).state, 'paused');
      assert.equal((await again.cancel(second.id)).state, 'cancelled');
      assert.equal((await again.cancel(first.id)).state, 'cancelled');
      assert.equal((await store.leases.firstBelow('h')) === undefined, true);
      await again.close();
      await store.close();
    });

    test('a job that is paused just as its turn comes is paused, whoever is first', async () => {
      await using room = scratch();
      const store = await (await each.create()).open();
      const kind = kindOf([], () => sleep(Math.random() * 4));
      const runner = runnerOn(store, room.path, asKind(kind), 'one', 1);
      await runner.start();
      for (let round = 0; round < 25; round++) {
        const first = await runner.submit(kind, { target: `h/p/${round}` }, 'me');
        const second = await runner.submit(kind, { target: `h/q/${round}` }, 'me');
        await sleep(Math.random() * 8);
        const { state } = await runner.pause(second.id).catch((error: StowageError) => {
          assert.equal(error.code, 'job-state');
          return { state: 'done' };
        });
        await until('the other is done', async () => (await runner.get(first.id)).state === 'done');
        if (state === 'done') continue;
        assert.equal((await runner.get(second.id)).state, state);
        assert.ok(state === 'paused' || state === 'done', state);
        await runner.resume(second.id);
        await until('it is done', async () => (await runner.get(second.id)).state === 'done');
      }
      await runner.close();
      await store.close();
    });

    test('a job whose controller is gone is taken over with a higher fence; the old one does and writes nothing more', async () => {
      await using room = scratch();
      const { open } = await each.create();
      const [old, next] = [await open(), await open()];
      const log: string[] = [];
      const fences: Record<string, number> = {};
      const release = Promise.withResolvers<void>();
      const kindFor = (who: string, isOld: boolean) => {
        const kind = kindOf(log);
        const steps = [
          {
            name: 'work',
            async run(context: Parameters<(typeof kind.steps)[0]['run']>[0]) {
              log.push(`${who} works`);
              if (isOld) await release.promise;
              fences[who] = await context.fence('h/p/v');
              if (isOld) throw new StowageError('volume-in-use', 'as another has changed it');
            },
          },
          { name: 'commit', run: async () => void log.push(`${who} commits`) },
        ];
        return { ...kind, steps, undo: async () => void log.push(`${who} undoes`) };
      };
      const first = runnerOn(old, room.path, asKind(kindFor('first', true)), 'first');
      await first.start();
      const job = await first.submit(kindFor('first', true), { target: 'h/p/v' }, 'me');
      await until('it works', () => log.includes('first works'));
      const early = runnerOn(next, room.path, asKind(kindFor('second', false)), 'second');
      await early.start();
      assert.equal((await next.jobs.find(job.id))?.owner, 'first', 'nobody takes a job whose owner lives');
      await early.close();
      await next.transaction(({ jobs }) => jobs.claim(job.id, 'first', 1));
      const second = runnerOn(next, room.path, asKind(kindFor('second', false)), 'second');
      await second.start();
      await until('it is done', async () => (await second.get(job.id)).state === 'done');
      // The old one was held up, and goes on now.
      release.resolve();
      await sleep(100);
      assert.ok(fences.first! < fences.second!, JSON.stringify(fences));
      assert.deepEqual(log, ['first works', 'second works', 'second commits']);
      await assert.rejects(first.cancel(job.id), { code: 'job-state' });
      await first.close();
      assert.equal((await second.get(job.id)).state, 'done');
      assert.equal((await next.audit.list(10, {})).filter(({ target }) => target === 'h/p/v').length, 1);
      await second.close();
      await old.close();
      await next.close();
    });

    test('a store that fails once, at any statement, makes no job fail, nor its work be done twice or undone', async () => {
      await using room = scratch();
      const { open } = await each.create();
      const store = await open();
      let count = 0;
      let failing = Number.POSITIVE_INFINITY;
      const shaky = new Store(
        store.db.withPlugin({
          transformQuery({ node }) {
            if (++count === failing) throw new Error('the server is being restarted');
            return node;
          },
          transformResult: async ({ result }) => result,
        }),
      );
      const log: string[] = [];
      const kind = kindOf(log);
      const runner = runnerOn(shaky, room.path, asKind(kind));
      await runner.start();
      const whole = await runner.submit(kind, { target: 'h/p/whole' }, 'me');
      const submitted = count;
      await until('it is done', async () => (await store.jobs.find(whole.id))?.state === 'done');
      const total = count;
      const jobs: number[] = [];
      for (let n = submitted + 1; n <= total; n++) {
        count = 0;
        failing = Number.POSITIVE_INFINITY;
        const { id } = await runner.submit(kind, { target: `h/p/${n}` }, 'me');
        failing = count + (n - submitted);
        jobs.push(id);
        await until('it is done', async () => (await store.jobs.find(id))?.state === 'done');
      }
      assert.ok(jobs.length > 10);
      assert.ok(!log.some((line) => line.startsWith('undo')), log.join());
      await runner.close();
      await store.close();
    });

    test('a job that was to be paused when its controller was killed is paused, and holds no place', async () => {
      await using room = scratch();
      const store = await (await each.create()).open();
      const log: string[] = [];
      const slow = kindOf(log, async (_params, signal) => {
        await sleep(60_000, undefined, { signal });
      });
      const killed = runnerOn(store, room.path, asKind(slow), 'one', 1);
      await killed.start();
      const first = await killed.submit(slow, { target: 'h/p/1' }, 'me');
      const second = await killed.submit(slow, { target: 'h/p/2' }, 'me');
      await until('it works', () => log.includes('work h/p/1'));
      await killed.close();
      await store.transaction(({ jobs }) => jobs.request(first.id, 'pause'));
      const again = runnerOn(store, room.path, asKind(slow), 'one', 1);
      await again.start();
      await until('the next one works', () => log.includes('work h/p/2'));
      assert.equal((await again.get(first.id)).state, 'paused');
      await again.close();
      assert.equal((await store.jobs.find(second.id))?.state, 'running');
      await store.close();
    });

    test('jobs for a host that is away wait in the queue, and begin when it is back', async () => {
      await using room = scratch();
      const store = await (await each.create()).open();
      await store.transaction(({ hosts }) =>
        hosts.insert({
          id: 'i',
          name: 'h',
          address: { kind: 'websocket' },
          state: 'unreachable',
          since: 1,
          createdAt: 1,
          labels: [],
        }),
      );
      const log: string[] = [];
      const kind = kindOf(log);
      const runner = runnerOn(store, room.path, asKind(kind));
      await runner.start();
      // They read from a host that is there, and do not keep others from it.
      for (let index = 0; index < 20; index++)
        await runner.submit(kind, { source: 'x/p/v', target: `h/p/${index}` }, 'me');
      const elsewhere = await runner.submit(kind, { source: 'x/p/v', target: 'y/p/v' }, 'me');
      await until('others go on', async () => (await runner.get(elsewhere.id)).state === 'done');
      assert.equal((await runner.list({ limit: 50, state: 'queued' })).length, 20);
      assert.deepEqual(log, ['work y/p/v', 'commit y/p/v']);
      await store.transaction(({ hosts }) => hosts.setState('i', 'reachable', undefined, 2));
      runner.wake('h');
      await until(
        'all are done',
        async () => (await runner.list({ limit: 50, state: 'done' })).length === 21,
      );
      await runner.close();
      await store.close();
    });

    test('the end of a job that cannot be put on record has not come', async () => {
      await using room = scratch();
      const store = await (await each.create()).open();
      const log: string[] = [];
      const kind = kindOf(log);
      let isBroken = true;
      const broken = new Store(
        store.db.withPlugin({
          transformQuery({ node }) {
            if (isBroken && node.kind === 'InsertQueryNode' && JSON.stringify(node.into).includes('"audit"'))
              throw new Error('disk full');
            return node;
          },
          transformResult: async ({ result }) => result,
        }),
      );
      const runner = runnerOn(broken, room.path, asKind(kind));
      await runner.start();
      const job = await runner.submit(kind, { target: 'h/p/v' }, 'me');
      await until('it is over but for its record', () => log.includes('commit h/p/v'));
      await sleep(200);
      assert.equal((await runner.get(job.id)).state, 'running');
      assert.equal((await store.leases.of(leased('h/p/v'))).length, 1);
      isBroken = false;
      await until('it ends', async () => (await runner.get(job.id)).state === 'done');
      assert.equal((await store.leases.of(leased('h/p/v'))).length, 0);
      await runner.close();
      await store.close();
    });
  });
