import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { AuditTrail } from '../../controller/audit/trail.ts';
import { openStore, type Store } from '../../controller/store/open.ts';
import { scratch } from '../support/scratch.ts';

const entry = (target: string) => ({
  actor: 'ana',
  source: '127.0.0.1',
  action: 'volume.create',
  target,
  outcome: 'done' as const,
});

async function trailOf(count: number): Promise<{ trail: AuditTrail; store: Store } & AsyncDisposable> {
  const room = scratch();
  const store = await openStore(join(room.path, 'store.db'));
  const trail = new AuditTrail(store, room.path);
  for (let index = 0; index < count; index++) await trail.append(entry(`h/p/v${index}`));
  return {
    trail,
    store,
    async [Symbol.asyncDispose]() {
      await store.destroy();
      await room[Symbol.asyncDispose]();
    },
  };
}

describe('the audit trail names the first bad record', () => {
  test('an untouched trail is whole', async () => {
    await using room = await trailOf(230);
    const verdict = await room.trail.verify();
    assert.equal(verdict.ok, true);
    assert.equal(verdict.head?.seq, 230);
  });

  const tampering: { name: string; badSeq: number; tamper(store: Store): Promise<unknown> }[] = [
    {
      name: 'one flipped byte',
      badSeq: 7,
      tamper: (store) => store.updateTable('audit').set({ target: 'h/p/V6' }).where('seq', '=', 7).execute(),
    },
    {
      name: 'a changed hash',
      badSeq: 7,
      tamper: (store) =>
        store
          .updateTable('audit')
          .set({ hash: '0'.repeat(64) })
          .where('seq', '=', 7)
          .execute(),
    },
    {
      name: 'a deleted row',
      badSeq: 9,
      tamper: (store) => store.deleteFrom('audit').where('seq', '=', 9).execute(),
    },
    {
      name: 'deleted newest rows',
      badSeq: 19,
      tamper: (store) => store.deleteFrom('audit').where('seq', '>', 18).execute(),
    },
    {
      name: 'deleted newest rows and their checkpoint',
      badSeq: 18,
      async tamper(store) {
        await store.deleteFrom('audit').where('seq', '>', 18).execute();
        await store.deleteFrom('audit_checkpoints').execute();
      },
    },
    {
      name: 'an inserted row',
      badSeq: 21,
      tamper: (store) =>
        store
          .insertInto('audit')
          .values({ seq: 21, at: 1, ...entry('h/p/forged'), detail: '', previous: 'x', hash: 'y' })
          .execute(),
    },
    {
      name: 'two rows exchanged',
      badSeq: 5,
      async tamper(store) {
        await store.updateTable('audit').set({ seq: 1000 }).where('seq', '=', 5).execute();
        await store.updateTable('audit').set({ seq: 5 }).where('seq', '=', 6).execute();
        await store.updateTable('audit').set({ seq: 6 }).where('seq', '=', 1000).execute();
      },
    },
  ];
  for (const { name, badSeq, tamper } of tampering) {
    test(name, async () => {
      await using room = await trailOf(20);
      await tamper(room.store);
      const verdict = await room.trail.verify();
      assert.equal(verdict.ok, false);
      assert.equal(verdict.badSeq, badSeq, verdict.reason);
    });
  }

  test('a rewritten chain is betrayed by the signature', async () => {
    await using room = await trailOf(20);
    await using forged = await trailOf(20);
    await room.store.deleteFrom('audit').execute();
    for (const row of await forged.trail.list(100, { after: 0 }))
      await room.store.insertInto('audit').values(row).execute();
    assert.equal((await room.trail.verify()).ok, false);
  });

  test('records made side by side still form one chain', async () => {
    await using room = await trailOf(0);
    await Promise.all(Array.from({ length: 50 }, (_, index) => room.trail.append(entry(`v${index}`))));
    assert.equal((await room.trail.verify()).ok, true);
  });
});
