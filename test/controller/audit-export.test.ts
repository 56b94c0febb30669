import assert from 'node:assert/strict';
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { AuditTrail } from '../../controller/audit/trail.ts';
import { execute } from '../support/controller.ts';
import { scratch } from '../support/scratch.ts';
import { STORES } from '../support/stores.ts';

const COUNT = 40;

for (const kind of STORES)
  describe(`an export of the audit trail on ${kind.name}`, () => {
    const room = scratch();
    after(() => room[Symbol.asyncDispose]());
    /** The verifier alone, as an auditor has it. */
    const verifier = join(room.path, 'stowage-verify.ts');
    cpSync('controller/audit/stowage-verify.ts', verifier);
    const verify = (lines: readonly string[], ...keys: string[]) =>
      execute(process.execPath, [verifier, room.file('export', `${lines.join('\n')}\n`), ...keys]);

    test('is whole by itself, and every change of it shows', async () => {
      const store = await (await kind.create()).open();
      after(() => store.close());
      const trail = new AuditTrail(store, room.path);
      const entry = { actor: 'ana', source: '127.0.0.1', action: 'volume.create', outcome: 'done' as const };
      for (let index = 0; index < COUNT; index++)
        await trail.append({ ...entry, target: `h/p/v${index}`, detail: 'ä "quoted", and\nmore' });
      const lines: string[] = [];
      for await (const line of trail.export()) {
        lines.push(line);
        // What is appended meanwhile is not in it.
        if (lines.length === 3) await trail.append({ ...entry, target: 'late' });
      }
      assert.equal(lines.length, COUNT + 1);
      const key = room.file('key.pem', trail.publicKey);
      const whole = await verify(lines, key);
      assert.equal(whole.status, 0, whole.stderr + whole.stdout);
      assert.match(whole.stdout, new RegExp(`whole: ${COUNT} records`));

      const other = await scratchKey();
      const otherKey = room.file('other.pem', other);
      assert.equal((await verify(lines, otherKey, key)).status, 0, 'one of the keys is the right one');
      const changed = (at: number, change: (line: string) => string): string[] =>
        lines.map((line, index) => (index === at ? change(line) : line));
      assert.equal((await verify([], key)).status, 2, 'of nothing nothing can be said');
      const cases: [string, string[], string, RegExp][] = [
        ['another key', lines, otherKey, /record 40: .*not signed/],
        [
          'a changed name',
          changed(6, (line) => line.replace('h/p/v6', 'h/p/x6')),
          key,
          /record 7: .*changed/,
        ],
        ['a record less', lines.toSpliced(6, 1), key, /record 7: .*missing/],
        ['a record twice', lines.toSpliced(6, 0, lines[6]!), key, /record 8: .*missing/],
        ['no beginning', lines.slice(1), key, /record 1: .*missing/],
        ['cut at a line', lines.slice(0, 20), key, /its signed end is missing/],
        [
          'cut in a line',
          [...lines.slice(0, 20), lines[20]!.slice(0, 30)],
          key,
          /record 21 should be there is none/,
        ],
        [
          'a detail that is said twice',
          changed(6, (line) => line.replace('{', '{"detail":"forged",')),
          key,
          /record 7 should be there is none/,
        ],
        ['nothing for a record', changed(6, () => 'null'), key, /record 7 should be there is none/],
        ['a number for a record', changed(6, () => '7'), key, /record 7 should be there is none/],
        ['an end of nothing', changed(COUNT, () => '{"checkpoint":null}'), key, /record 41 should be/],
        ['an end too early', [...lines.slice(0, 20), lines.at(-1)!], key, /record 40: .*not the one/],
        ['more behind the end', [...lines, lines[0]!], key, /more behind the signed end/],
      ];
      for (const [what, given, with_, words] of cases) {
        const { status, stdout, stderr } = await verify(given, with_);
        assert.equal(status, 1, `${what}: ${stderr}`);
        assert.match(stdout, words, what);
      }
      assert.equal((await verify(lines)).status, 2, 'without a key nothing can be said');
      assert.equal((await verify(lines, '/absent')).status, 2);
    });

    test('filters find what few of many records are, by time, action and outcome', async () => {
      const store = await (await kind.create()).open();
      after(() => store.close());
      const trail = new AuditTrail(store, room.path);
      const base = { actor: 'ana', source: '127.0.0.1', target: 'h/p/v' };
      await trail.append({ ...base, action: 'volume.delete', outcome: 'refused' });
      await trail.append({ ...base, action: 'volume.deleted', outcome: 'done' });
      await trail.append({ ...base, action: 'volumes.delete', outcome: 'done' });
      await trail.append({ ...base, action: 'pool.create', outcome: 'done' });
      const seqs = async (filter: Parameters<AuditTrail['list']>[1]): Promise<number[]> =>
        (await trail.list(10, filter)).map(({ seq }) => seq);
      const [first, , third] = await trail.list(10);
      assert.deepEqual(await seqs({ action: 'volume.delete' }), [1]);
      assert.deepEqual(await seqs({ action: 'volume.' }), [1, 2]);
      assert.deepEqual(await seqs({ action: 'volume' }), []);
      assert.deepEqual(await seqs({ outcome: 'done' }), [2, 3, 4]);
      assert.deepEqual(await seqs({ outcome: 'done', action: 'volume.' }), [2]);
      assert.deepEqual(await seqs({ until: first!.at }), []);
      assert.deepEqual(await seqs({ since: third!.at + 60_000, outcome: 'done' }), []);
      assert.deepEqual(await seqs({ host: 'h', outcome: 'refused' }), [1]);
      assert.deepEqual(
        (await trail.list(2, { outcome: 'done' })).map(({ seq }) => seq),
        [3, 4],
        'the newest',
      );
    });
  });

/** The public half of a key of somebody else. */
async function scratchKey(): Promise<string> {
  await using room = scratch();
  const store = await (await STORES[0]!.create()).open();
  const { publicKey } = new AuditTrail(store, room.path);
  await store.close();
  return publicKey;
}
