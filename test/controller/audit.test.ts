import assert from 'node:assert/strict';
import { describe, mock, test } from 'node:test';
import { AuditTrail } from '../../controller/audit/trail.ts';
import type { AuditFilter } from '../../controller/store/repositories/audit.ts';
import type { Store } from '../../controller/store/store.ts';
import { scratch } from '../support/scratch.ts';
import { STORES, type TestStore } from '../support/stores.ts';

const entry = (target: string) => ({
  actor: 'ana',
  source: '127.0.0.1',
  action: 'volume.create',
  target,
  outcome: 'done' as const,
});

async function trailOf(
  kind: TestStore,
  count: number,
): Promise<{ trail: AuditTrail; store: Store } & AsyncDisposable> {
  const room = scratch();
  const { open } = await kind.create();
  const store = await open();
  const trail = new AuditTrail(store, room.path);
  for (let index = 0; index < count; index++) await trail.append(entry(`h/p/v${index}`));
  return {
    trail,
    store,
    async [Symbol.asyncDispose]() {
      await store.close();
      await room[Symbol.asyncDispose]();
    },
  };
}

for (const kind of STORES)
  describe(`the audit trail on ${kind.name} names the first bad record`, () => {
    test('an untouched trail is whole', async () => {
      await using room = await trailOf(kind, 230);
      const verdict = await room.trail.verify();
      assert.equal(verdict.ok, true);
      assert.equal(verdict.head?.seq, 230);
    });

    const tampering: { name: string; badSeq: number; tamper(store: Store): Promise<unknown> }[] = [
      {
        name: 'one flipped byte',
        badSeq: 7,
        tamper: ({ db }) => db.updateTable('audit').set({ target: 'h/p/V6' }).where('seq', '=', 7).execute(),
      },
      {
        name: 'a changed hash',
        badSeq: 7,
        tamper: ({ db }) =>
          db
            .updateTable('audit')
            .set({ hash: '0'.repeat(64) })
            .where('seq', '=', 7)
            .execute(),
      },
      {
        name: 'a deleted row',
        badSeq: 9,
        tamper: ({ db }) => db.deleteFrom('audit').where('seq', '=', 9).execute(),
      },
      {
        name: 'deleted newest rows',
        badSeq: 19,
        tamper: ({ db }) => db.deleteFrom('audit').where('seq', '>', 18).execute(),
      },
      {
        name: 'deleted newest rows and their checkpoint',
        badSeq: 18,
        async tamper({ db }) {
          await db.deleteFrom('audit').where('seq', '>', 18).execute();
          await db.deleteFrom('audit_checkpoints').execute();
        },
      },
      {
        name: 'an inserted row',
        badSeq: 21,
        tamper: ({ db }) =>
          db
            .insertInto('audit')
            .values({ seq: 21, at: 1, ...entry('h/p/forged'), detail: '', previous: 'x', hash: 'y' })
            .execute(),
      },
      {
        name: 'two rows exchanged',
        badSeq: 5,
        async tamper({ db }) {
          await db.updateTable('audit').set({ seq: 1000 }).where('seq', '=', 5).execute();
          await db.updateTable('audit').set({ seq: 5 }).where('seq', '=', 6).execute();
          await db.updateTable('audit').set({ seq: 6 }).where('seq', '=', 1000).execute();
        },
      },
    ];
    for (const { name, badSeq, tamper } of tampering) {
      test(name, async () => {
        await using room = await trailOf(kind, 20);
        await tamper(room.store);
        const verdict = await room.trail.verify();
        assert.equal(verdict.ok, false);
        assert.equal(verdict.badSeq, badSeq, verdict.reason);
      });
    }

    test('a rewritten chain is betrayed by the signature', async () => {
      await using room = await trailOf(kind, 20);
      await using forged = await trailOf(kind, 20);
      await room.store.db.deleteFrom('audit').execute();
      for (const row of await forged.trail.list(100, { after: 0 }))
        await room.store.db.insertInto('audit').values(row).execute();
      assert.equal((await room.trail.verify()).ok, false);
    });

    test('what is appended while it is verified is no tampering', async () => {
      await using room = await trailOf(kind, 1200);
      const verifying = room.trail.verify();
      for (let index = 0; index < 5; index++) await room.trail.append(entry(`meanwhile${index}`));
      assert.equal((await verifying).ok, true);
    });

    test('those after a record that pass a filter come in order, however few they are', async () => {
      await using room = await trailOf(kind, 30);
      for (const outcome of ['refused', 'done', 'refused', 'refused'] as const)
        await room.trail.append({ ...entry('h/p/late'), outcome });
      const found = async (limit: number, filter: AuditFilter): Promise<number[]> =>
        (await room.trail.list(limit, filter)).map(({ seq }) => seq);
      assert.deepEqual(await found(2, { after: 5, outcome: 'refused' }), [31, 33]);
      assert.deepEqual(await found(9, { after: 31, outcome: 'refused' }), [33, 34]);
      assert.deepEqual(await found(2, { outcome: 'refused' }), [33, 34]);
      assert.deepEqual(await found(2, { after: 3, scopes: ['h'] }), [4, 5]);
      assert.deepEqual(await found(2, { after: 3, scopes: ['elsewhere'] }), []);
      assert.deepEqual(await found(2, { after: 34, outcome: 'refused' }), []);
      // What is of the whole fleet is in no scope, whatever a host is called.
      const [action, target] = ['user.invite', 'user ana'];
      await room.trail.append({ ...entry(target), action });
      assert.deepEqual(await found(9, { scopes: [target] }), []);
    });

    test('while nothing can be put on record that is told, and since when, once it can', async () => {
      await using room = await trailOf(kind, 3);
      assert.equal(await room.trail.standstill(), undefined);
      const { transaction } = room.store;
      room.store.transaction = () => Promise.reject(new Error('the disk is full'));
      await assert.rejects(room.trail.append(entry('h/p/v')), { code: 'audit-unwritable' });
      assert.equal(await room.trail.standstill(), 'the disk is full');
      room.store.transaction = transaction;
      // It is not tried with each question.
      assert.equal(await room.trail.standstill(), 'the disk is full');
      mock.timers.enable({ apis: ['Date'], now: Date.now() + 11_000 });
      try {
        assert.equal(await room.trail.standstill(), undefined);
      } finally {
        mock.timers.reset();
      }
      const [last] = await room.trail.list(1);
      assert.equal(last?.action, 'audit.resume');
      assert.match(last.detail, /nothing could be put on record since 20/);
    });

    test('records made side by side still form one chain', async () => {
      await using room = await trailOf(kind, 0);
      await Promise.all(Array.from({ length: 50 }, (_, index) => room.trail.append(entry(`v${index}`))));
      assert.equal((await room.trail.verify()).ok, true);
    });
  });
