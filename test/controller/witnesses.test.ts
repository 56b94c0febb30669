import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { appendFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { Attention } from '../../controller/attention/items.ts';
import type { Duty } from '../../controller/audit/duty.ts';
import { Frontier, leafOf, noteKey, parseNote, signatureBy } from '../../controller/audit/stowage-verify.ts';
import { feeder } from '../../controller/audit/witness/feeder.ts';
import { fileWitness } from '../../controller/audit/witness/file-witness.ts';
import { httpWitness } from '../../controller/audit/witness/http-witness.ts';
import { WitnessedLog } from '../../controller/audit/witness/log.ts';
import { WitnessMemory } from '../../controller/audit/witness/memory.ts';
import { consistencyProof, isConsistent } from '../../controller/audit/witness/proof.ts';
import { witnessServer } from '../../controller/audit/witness/stowage-witness.ts';
import { execute } from '../support/controller.ts';
import { entry, type TrailRoom, until, withTrail } from '../support/trail.ts';

const ORIGIN = 'storage.example/audit';
const NAME = 'witness.example/w1';
const LOOK_MS = 50;

const leavesOf = (data: readonly string[]): Buffer[] => data.map(leafOf);
function treeOf(leaves: readonly Buffer[]): Frontier {
  const tree = new Frontier();
  for (const leaf of leaves) tree.append(leaf);
  return tree;
}

describe('the Merkle tree of the trail', () => {
  // The leaves, roots and proofs by which implementations of RFC 6962 are tested.
  const DATA = [
    '',
    '00',
    '10',
    '2021',
    '3031',
    '40414243',
    '5051525354555657',
    '606162636465666768696a6b6c6d6e6f',
  ];
  const hex = (nodes: readonly Buffer[]): string[] => nodes.map((node) => node.toString('hex'));

  test('has the roots of RFC 6962', () => {
    const roots = [0, 1, 2, 8].map((size) => treeOf(leavesOf(DATA.slice(0, size))).root());
    assert.deepEqual(hex(roots), [
      'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
      '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
      'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
      '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
    ]);
  });

  test('has the consistency proofs of RFC 6962', () => {
    const leaves = leavesOf(DATA);
    const proof = (old: number) => hex(consistencyProof(treeOf(leaves.slice(0, old)), leaves.slice(old)));
    assert.deepEqual(proof(1), [
      '96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7',
      '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
      '6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4',
    ]);
    assert.deepEqual(proof(6), [
      '0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a',
      'ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0',
      'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
    ]);
  });

  test('of any two sizes up to 70, and to 1000 from some, a proof holds, and none for a changed record', () => {
    const all = Array.from({ length: 1000 }, (_, index) => leafOf(index.toString(16).padStart(4, '0')));
    const other = [...all];
    other[0] = leafOf('ffff');
    const pairs = Array.from({ length: 70 }, (_, n) => n + 1).flatMap((size) =>
      Array.from({ length: size - 1 }, (_, m) => [m + 1, size] as const),
    );
    for (const [old, size] of [...pairs, [1, 1000], [512, 1000], [513, 1000], [999, 1000]] as const) {
      const tree = (leaves: readonly Buffer[], count: number) => {
        const grown = treeOf(leaves.slice(0, count));
        return { size: count, root: grown.root() };
      };
      const kept = new Frontier(old, treeOf(all.slice(0, old)).texts);
      const proof = consistencyProof(kept, all.slice(old, size));
      assert.ok(isConsistent(tree(all, old), tree(all, size), proof), `${old} to ${size}`);
      assert.ok(!isConsistent(tree(other, old), tree(all, size), proof), `${old} to ${size}, other begin`);
      assert.ok(!isConsistent(tree(all, old), tree(other, size), proof), `${old} to ${size}, other end`);
      assert.ok(!isConsistent(tree(all, old), tree(all, size), proof.slice(1)), `${old} to ${size}, cut`);
      assert.ok(
        !isConsistent(tree(all, old), tree(all, size), [...proof, proof[0]!]),
        `${old} to ${size}, more`,
      );
    }
  });

  test('notes and keys are those that Go knows', () => {
    // The example of the package golang.org/x/mod/sumdb/note.
    const key = noteKey('PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW');
    const body =
      "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    const base64 =
      'x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=';
    const bytes = Buffer.from(base64, 'base64');
    const signatures = [
      { name: 'PeterNeumann', id: bytes.subarray(0, 4).toString('hex'), bytes: bytes.subarray(4) },
    ];
    const note = { body, origin: '', size: 0, root: Buffer.alloc(32), signatures };
    assert.equal(signatureBy(note, key)?.at, 0);
    assert.equal(signatureBy({ ...note, body: body.replace('you', 'me') }, key), undefined);
    assert.throws(
      () => noteKey('PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW'),
      /its id/,
    );
    for (const text of ['', 'a', 'a+b+c', 'a+00000000+AA=='])
      assert.throws(() => noteKey(text), /NAME\+ID\+BASE64/);
  });
});

/** A witness that listens, on a port of its own. */
class Listening implements AsyncDisposable {
  readonly server: Server;
  /** Answers instead of the witness, where it is there. */
  instead: RequestListener | undefined;

  private constructor(server: Server) {
    this.server = server;
  }

  static async start(memory: WitnessMemory, port = 0): Promise<Listening> {
    const inner = witnessServer(memory);
    const listening: Listening = new Listening(
      createServer((request, response) => {
        if (listening.instead) listening.instead(request, response);
        else inner.emit('request', request, response);
      }),
    );
    listening.server.listen(port, '127.0.0.1');
    await once(listening.server, 'listening');
    return listening;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, 'close');
  }
}

const logOf = (room: TrailRoom): WitnessedLog => new WitnessedLog(ORIGIN, room.trail);
const memoryOf = (room: TrailRoom, directory = 'witness'): WitnessMemory =>
  new WitnessMemory(NAME, join(room.directory, directory), [noteKey(logOf(room).key)], Date.now);
const feed = (room: TrailRoom, memory: WitnessMemory, port: number): Duty =>
  room.run(
    feeder(
      { ...room, log: logOf(room) },
      httpWitness(`http://127.0.0.1:${port}/`, noteKey(memory.key), LOOK_MS),
    ),
  );

async function seen(room: TrailRoom, count: number): Promise<void> {
  await until(async () => (await room.store.witnesses.find(NAME))?.seq === count);
}

const append = async (room: TrailRoom, count: number): Promise<void> => {
  for (let index = 0; index < count; index++) await room.trail.append(entry(`h/p/more${index}`));
};

/** Everything from one record on is written again, with another actor, and signed: as whoever has the key of the controller can. */
async function rewrite(room: TrailRoom, from: number): Promise<void> {
  const { db } = room.store;
  const old = await db.selectFrom('audit').selectAll().where('seq', '>=', from).orderBy('seq').execute();
  await db.deleteFrom('audit').where('seq', '>=', from).execute();
  for (const { actor: _, source, action, target, outcome, detail } of old)
    await room.trail.append({ actor: 'mallory', source, action, target, outcome, detail });
}

describe('a witness sees the trail grow', () => {
  test('it signs what it has seen, over restarts of both; and an export tells who has seen it', async () => {
    await using room = await withTrail(700);
    const memory = memoryOf(room);
    await using witness = await Listening.start(memory);
    const first = feed(room, memory, witness.port);
    await seen(room, 700);
    await append(room, 3);
    await seen(room, 703);
    await first.close();
    await append(room, 1);
    // Started again, of all that it knows it has what is on the disk.
    await using again = await Listening.start(memoryOf(room));
    feed(room, memory, again.port);
    await seen(room, 704);
    const key = noteKey(memory.key);
    const verdict = await room.trail.verify({ seen: { origin: ORIGIN, witnesses: [key] } });
    assert.ok(verdict.ok, verdict.reason);
    assert.deepEqual(
      verdict.witnessed.map(({ name, seq }) => ({ name, seq })),
      [{ name: NAME, seq: 704 }],
    );
    assert.ok(Math.abs(verdict.witnessed[0]!.at - Date.now()) < 60_000);

    const lines: string[] = [];
    for await (const line of room.trail.export()) lines.push(line);
    const file = join(room.directory, 'export');
    const pem = join(room.directory, 'key.pem');
    writeFileSync(file, `${lines.join('\n')}\n`);
    writeFileSync(pem, room.trail.publicKey);
    const verify = (...args: string[]) =>
      execute(process.execPath, ['controller/audit/stowage-verify.ts', ...args, file, pem]);
    const whole = await verify('--origin', ORIGIN, '--witness', memory.key);
    assert.equal(whole.status, 0, whole.stdout + whole.stderr);
    assert.match(
      whole.stdout,
      /whole: 704 records, .*\nwitness\.example\/w1 has seen it up to record 704, at 20\d\d-/,
    );
    const other = memoryOf(room, 'other');
    const unseen = await verify('--origin', ORIGIN, '--witness', other.key);
    assert.equal(unseen.status, 2);
    assert.match(unseen.stdout, /is not known: witness\.example\/w1 has signed none of it/);
    const elsewhere = await verify('--origin', 'other.example/audit', '--witness', memory.key);
    assert.match(
      elsewhere.stdout,
      /has signed none of it/,
      'what it has seen of another trail counts for nothing',
    );
    const empty = join(room.directory, 'empty');
    writeFileSync(empty, '\n');
    for (const [options, words] of [
      [['--origin', ORIGIN, '--witness', 'nobody'], /NAME\+ID\+BASE64/],
      [['--witness', memory.key], /--origin and --witness come together/],
      [['--checkpoints', empty], /--checkpoints with them/],
      [['--origin', ORIGIN, '--witness', memory.key, '--checkpoints', empty], /no checkpoint in/],
    ] as const) {
      const { status, stderr } = await verify(...options);
      assert.equal(status, 2);
      assert.match(stderr, words);
    }
    const kept = await verify(
      '--origin',
      ORIGIN,
      '--witness',
      memory.key,
      '--checkpoints',
      `${pathOf(room)}.jsonl`,
    );
    assert.equal(kept.status, 0, kept.stdout + kept.stderr);
  });

  test('who has the key of the controller rewrites nothing unseen, and cuts nothing off', async () => {
    for (const harm of [
      (room: TrailRoom) => rewrite(room, 11),
      async (room: TrailRoom) => {
        await rewrite(room, 11);
        await append(room, 20);
      },
      async (room: TrailRoom) => {
        await room.store.db.deleteFrom('audit').where('seq', '>', 20).execute();
        await rewrite(room, 20);
      },
    ]) {
      await using room = await withTrail(30);
      const memory = memoryOf(room);
      await using witness = await Listening.start(memory);
      const before = feed(room, memory, witness.port);
      await seen(room, 30);
      await before.close();
      await harm(room);
      assert.ok((await room.trail.verify()).ok, 'without the witness nobody sees it');
      assert.equal(
        (await room.trail.verify({ seen: { origin: ORIGIN, witnesses: [noteKey(memory.key)] } })).ok,
        false,
      );
      // Whoever is at it forgets what the witness has signed, too: the witness does not.
      for (const table of ['witnesses', 'witnessed'] as const)
        await room.store.db.deleteFrom(table).execute();
      assert.ok((await room.trail.verify({ seen: { origin: ORIGIN, witnesses: [noteKey(memory.key)] } })).ok);
      const duty = feed(room, memory, witness.port);
      const { isDisputed, reason } = await until(() => duty.state.standstill);
      assert.ok(isDisputed, reason);
      const attention = new Attention(room.store, () => [duty.state]);
      const [item] = await attention.items([]);
      assert.equal(item?.kind, 'trail-disputed');
      assert.equal(item?.severity, 'critical');
      assert.equal(await attention.end(item!), 'unknown');
      const kept = readFileSync(pathOf(room), 'utf8');
      assert.equal(parseNote(kept).size, 30, 'it goes on from nothing else');
    }
  });

  test('a trail that is older after a restore is disputed; a witness that has forgotten it begins anew', async () => {
    await using room = await withTrail(10);
    const memory = memoryOf(room);
    await using witness = await Listening.start(memory);
    const first = feed(room, memory, witness.port);
    await seen(room, 10);
    const old = await room.store.witnesses.find(NAME);
    await append(room, 5);
    await seen(room, 15);
    await first.close();
    // As an older backup has it.
    await room.store.db.deleteFrom('audit').where('seq', '>', 10).execute();
    await room.store.transaction(({ witnesses }) => witnesses.note(old!));
    const duty = feed(room, memory, witness.port);
    assert.match((await until(() => duty.state.standstill)).reason, /seen 15 records, and there are 10/);
    await duty.close();
    rmSync(pathOf(room));
    await append(room, 2);
    feed(room, memory, witness.port);
    await seen(room, 12);
  });

  test('what it has signed and we did not note is found again', async () => {
    await using room = await withTrail(40);
    const memory = memoryOf(room);
    await using witness = await Listening.start(memory);
    const first = feed(room, memory, witness.port);
    await seen(room, 40);
    await first.close();
    const old = await room.store.witnesses.find(NAME);
    await append(room, 7);
    const second = feed(room, memory, witness.port);
    await seen(room, 47);
    await second.close();
    await room.store.transaction(({ witnesses }) => witnesses.note(old!));
    await append(room, 1);
    feed(room, memory, witness.port);
    await seen(room, 48);
  });

  test('one that is away, lies, sends nonsense or never answers is told of, and holds up nothing', async () => {
    await using room = await withTrail(5);
    const memory = memoryOf(room);
    const stranger = memoryOf(room, 'stranger');
    const reply =
      (status: number, text: string, type = 'text/plain'): RequestListener =>
      (request, response) => {
        request.resume();
        response.writeHead(status, { 'content-type': type }).end(text);
      };
    await using witness = await Listening.start(stranger);
    const cases: [string, RequestListener | undefined, RegExp][] = [
      ['signed by another', undefined, /not signed with the key of witness\.example/],
      ['no signature', reply(200, 'ok\n'), /no signature of a note/],
      ['nothing', reply(200, ''), /does not end with a line/],
      ['too much', reply(200, 'x'.repeat(100_000)), /too long/],
      ['another way', reply(302, ''), /status 302/],
      ['unknown', reply(404, ''), /does not know this trail/],
      ['another key', reply(403, ''), /another key/],
      [
        'more than there is',
        reply(409, '99999\n', 'text/x.tlog.size'),
        /seen 99999 records, and there are 5/,
      ],
      ['always another size', sizes(), /each time/],
      ['inconsistent', reply(422, ''), /not how the trail begins/],
      ['no size', reply(409, '-1\n', 'text/x.tlog.size'), /status 409/],
    ];
    for (const [name, instead, words] of cases) {
      witness.instead = instead;
      const duty = feed(room, memory, witness.port);
      const { reason } = await until(() => duty.state.standstill);
      assert.match(reason, words, name);
      await duty.close();
      assert.equal(await room.store.witnesses.find(NAME), undefined, name);
    }
    witness.instead = () => undefined;
    const silent = feed(room, memory, witness.port);
    await append(room, 1);
    const began = Date.now();
    await silent.close();
    assert.ok(Date.now() - began < 5000);
  });

  test('the answers of a witness are those of tlog-witness', async () => {
    await using room = await withTrail(9);
    const memory = memoryOf(room);
    const log = logOf(room);
    const leaves = (await room.trail.list(9, { after: 0 })).map(({ hash }) => leafOf(hash));
    const note = (count: number) => log.checkpoint(treeOf(leaves.slice(0, count)));
    const proof = (old: number, count: number) =>
      consistencyProof(treeOf(leaves.slice(0, old)), leaves.slice(old, count)).map((node) =>
        node.toString('base64'),
      );
    const add = (...lines: string[]) => memory.add(lines.join('\n'));
    assert.equal(add('old 0', '', note(4)).status, 200);
    assert.deepEqual(add('old 0', '', note(5)), { status: 409, text: '4\n', type: 'text/x.tlog.size' });
    assert.deepEqual(add('old 9', '', note(9)), { status: 409, text: '4\n', type: 'text/x.tlog.size' });
    assert.equal(add('old 4', '', note(9)).status, 422, 'without a proof');
    assert.equal(add('old 4', ...proof(5, 9), '', note(9)).status, 422, 'with that of another');
    assert.equal(add('old 4', '', note(4)).status, 200, 'again, as it was');
    assert.equal(add('old 4', '', `${note(4)}garbage`).status, 400, 'what comes behind is none of it');
    assert.equal(add('old 4', '', `${note(4)}— x ${Buffer.alloc(68).toString('base64')}\n`).status, 200);
    assert.ok(!readFileSync(pathOf(room), 'utf8').includes('— x '), 'and is not kept');
    assert.equal(add('old 4', ...proof(4, 9), '', note(9)).status, 200);
    assert.equal(add('old 9', '', note(4)).status, 400, 'smaller');
    const other = new WitnessedLog('other.example/audit', room.trail);
    assert.equal(add('old 9', '', other.checkpoint(treeOf(leaves))).status, 404);
    assert.equal(
      add('old 9', '', note(9).replace(/— .*/, `— ${ORIGIN} ${Buffer.alloc(68).toString('base64')}`)).status,
      403,
    );
    const forged = treeOf([...leaves.slice(1), leaves[0]!]);
    assert.equal(add('old 9', '', log.checkpoint(forged)).status, 409, 'another root');
    for (const text of [
      '',
      'old',
      'old 01\n\n',
      'old -1\n\n',
      `old 9\nAAAA\n\n${note(9)}`,
      'old 9\n\nx',
      `${note(9)}`,
    ])
      assert.equal(memory.add(text).status, 400, text);
    assert.equal(parseNote(readFileSync(pathOf(room), 'utf8')).size, 9);
  });

  test('as a program it is told the key of the trail, and tells its own', async () => {
    await using room = await withTrail(1);
    const program = 'controller/audit/witness/stowage-witness.ts';
    const data = join(room.directory, 'witness');
    const usage = await execute(process.execPath, [program, '--name', 'a b', '--log', logOf(room).key]);
    assert.equal(usage.status, 2);
    assert.match(usage.stderr, /--name: a URL without a scheme/);
    const help = await execute(process.execPath, [program, '--help']);
    assert.deepEqual([help.status, help.stdout.startsWith('usage: stowage-witness')], [0, true]);
    const reversed = await execute(process.execPath, [
      program,
      '--name',
      NAME,
      '--log',
      memoryOf(room, 'x').key,
    ]);
    assert.match(reversed.stderr, /that is the key of a witness/);
    const wrong = await execute(process.execPath, [program, '--name', NAME, '--log', 'x', '--data', data]);
    assert.equal(wrong.status, 2);
    assert.match(wrong.stderr, /NAME\+ID\+BASE64/);
    assert.ok(!existsSync(data));
  });
});

/** Where a witness keeps what it has seen. */
const pathOf = (room: TrailRoom, directory = 'witness'): string =>
  join(room.directory, directory, createHash('sha256').update(ORIGIN).digest('hex'));

/** One that names another size each time. */
function sizes(): RequestListener {
  let size = 0;
  return (request, response) => {
    request.resume();
    size = (size % 3) + 1;
    response.writeHead(409, { 'content-type': 'text/x.tlog.size' }).end(`${size}\n`);
  };
}

describe('a file sees the trail grow', () => {
  test('on a line each, over a torn one; what is cut off or rewritten later does not go on from it', async () => {
    await using room = await withTrail(6);
    const path = join(room.directory, 'checkpoints.jsonl');
    const start = (): Duty => room.run(feeder({ ...room, log: logOf(room) }, fileWitness(path, LOOK_MS)));
    const lines = (): string[] =>
      existsSync(path) ? readFileSync(path, 'utf8').split('\n').filter(Boolean) : [];
    const first = start();
    await until(() => lines().length === 1 && first.state.isFlowing);
    await first.close();
    appendFileSync(path, '{"witnessed":"stor');
    await append(room, 2);
    const second = start();
    await until(() => lines().length === 3 && second.state.isFlowing);
    await second.close();
    assert.equal(parseNote(JSON.parse(lines()[2]!).witnessed).size, 8);
    const key = noteKey(logOf(room).key);
    const notes = [lines()[0]!, lines()[2]!].map((line) => parseNote(JSON.parse(line).witnessed));
    assert.ok(
      (await room.trail.verify({ seen: { origin: ORIGIN, witnesses: [] }, file: { key, notes } })).ok,
    );
    await rewrite(room, 3);
    assert.match(
      (await room.trail.verify({ seen: { origin: ORIGIN, witnesses: [] }, file: { key, notes } })).reason!,
      /another trail up to record 6/,
    );
    const third = start();
    assert.match(
      (await until(() => third.state.standstill)).reason,
      /up to record 8 it has seen another trail/,
    );
    await append(room, 1);
    await third.close();
    const fourth = start();
    assert.ok((await until(() => fourth.state.standstill)).isDisputed);
    assert.equal(lines().length, 3);
  });
});
