import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { AuditTrail } from '../../controller/audit/trail.ts';
import type { HostLabels } from '../../controller/auth/host-labels.ts';
import type { Fleet } from '../../controller/hosts/fleet.ts';
import { SecretGiver } from '../../controller/secrets/giver.ts';
import { Sealing } from '../../controller/secrets/sealing.ts';
import { Secrets } from '../../controller/secrets/secrets.ts';
import { openStore } from '../../controller/store/store.ts';
import type { Pool } from '../../shared/conf/pool.ts';
import { scratch } from '../support/scratch.ts';

const labels = { has: (host: string, label: string) => host === 'beta' && label === 'prod' } as HostLabels;
const chap = (usage: string) => ({ type: 'chap' as const, username: 'ann', secret: { usage } });

async function openRoom() {
  const room = scratch();
  const store = await openStore(join(room.path, 'store.db'));
  return {
    store,
    path: room.path,
    secrets: new Secrets(store, labels, room.path),
    async [Symbol.asyncDispose]() {
      await store.close();
      await room[Symbol.asyncDispose]();
    },
  };
}

test('what is sealed opens with its key and its label only', async () => {
  await using room = scratch();
  const path = join(room.path, 'key');
  const sealed = new Sealing(path).seal('secret', 'one');
  assert.equal(new Sealing(path).open(sealed, 'one'), 'secret');
  assert.notEqual(new Sealing(path).seal('secret', 'one'), sealed, 'two of one text are not equal');
  assert.throws(() => new Sealing(path).open(sealed, 'two'), { code: 'io-error' });
  const changed = Buffer.from(sealed, 'base64');
  changed[14]! ^= 1;
  assert.throws(() => new Sealing(path).open(changed.toString('base64'), 'one'), { code: 'io-error' });
  assert.throws(() => new Sealing(path).open('', 'one'), { code: 'io-error' });
  assert.throws(() => new Sealing(join(room.path, 'other')).open(sealed, 'one'), { code: 'io-error' });
  writeFileSync(path, 'short');
  assert.throws(() => new Sealing(path), { code: 'io-error' });
});

test('a secret goes to the pools that it is for, by kind and usage or by its UUID in any letters', async () => {
  await using room = await openRoom();
  const { secrets } = room;
  const id = '7C0F0A5E-9D5E-4F0A-8F0C-3F3D1A2B4C5D'.toLowerCase();
  await secrets.define({ kind: 'iscsi', usage: 'nas', scopes: ['alpha/p', '@prod'], id }, 'value');
  assert.equal((await secrets.valueFor(chap('nas'), 'alpha', 'p')).value, 'value');
  assert.equal((await secrets.valueFor(chap('nas'), 'beta', 'any')).value, 'value');
  const byId = { type: 'chap' as const, username: 'ann', secret: { uuid: id.toUpperCase() } };
  assert.equal((await secrets.valueFor(byId, 'alpha', 'p')).value, 'value');
  await assert.rejects(secrets.valueFor(chap('nas'), 'alpha', 'q'), { code: 'forbidden' });
  await assert.rejects(secrets.valueFor({ ...chap('nas'), type: 'ceph' }, 'alpha', 'p'), {
    code: 'secret-not-found',
  });
  await assert.rejects(secrets.valueFor(chap('none'), 'alpha', 'p'), { code: 'secret-not-found' });
  // Another kind does not take its id.
  await assert.rejects(secrets.define({ kind: 'ceph', usage: 'nas', scopes: ['alpha'], id }, 'x'), {
    code: 'invalid-argument',
  });
  const again = await secrets.define({ kind: 'iscsi', usage: 'nas', scopes: ['alpha/p'] }, 'new');
  assert.equal(again.id, id);
  assert.equal((await secrets.valueFor(chap('nas'), 'alpha', 'p')).value, 'new');
});

test('who can write to the store alone cannot give a secret to other hosts', async () => {
  await using room = await openRoom();
  await room.secrets.define({ kind: 'iscsi', usage: 'nas', scopes: ['alpha'] }, 'value');
  await room.store.db.updateTable('secrets').set({ scopes: '["evil"]' }).execute();
  await assert.rejects(room.secrets.valueFor(chap('nas'), 'evil', 'p'), { code: 'io-error' });
  assert.ok(!readFileSync(join(room.path, 'store.db')).includes('value"'));
});

test('a pool that asks again and again is given a secret once in a while, and what was refused not again', async () => {
  await using room = await openRoom();
  const { secrets } = room;
  await secrets.define({ kind: 'iscsi', usage: 'nas', scopes: ['alpha'] }, 'value');
  const sent: string[] = [];
  const records: string[] = [];
  let away = false;
  const giver = new SecretGiver({
    secrets,
    fleet: {
      client: async () => {
        if (away) throw new Error('unreachable');
        return { send: async (path: string) => void sent.push(path) };
      },
    } as unknown as Fleet,
    audit: {
      append: async ({ outcome, detail }: Record<string, string>) =>
        void records.push(`${outcome} ${detail}`),
    } as unknown as AuditTrail,
  });
  const pool = (name: string, awaitsSecret: Pool['awaitsSecret'], usage = 'nas') =>
    ({ name, awaitsSecret, source: { hosts: [], devices: [], auth: chap(usage) } }) as unknown as Pool;
  for (let time = 0; time < 3; time++) await giver.give('alpha', pool('p', 'missing'));
  assert.deepEqual(records, ['begun iscsi nas', 'done iscsi nas']);
  assert.equal(sent.length, 1);
  for (let time = 0; time < 3; time++) await giver.give('beta', pool('p', 'missing'));
  assert.equal(records.length, 3, 'a refusal is on record once');
  assert.match(records[2]!, /^refused .*is not for pool beta\/p/);
  away = true;
  await giver.give('alpha', pool('q', 'missing'));
  assert.equal(records.length, 3, 'a host that is away is no refusal, and nothing was begun');
});
