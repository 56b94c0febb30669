import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, test } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import { archives } from '../../controller/audit/archives.ts';
import type { Duty } from '../../controller/audit/duty.ts';
import { fileDestination } from '../../controller/audit/forward/file.ts';
import { forwarder } from '../../controller/audit/forward/forwarder.ts';
import { Frontier, leafOf, noteKey } from '../../controller/audit/stowage-verify.ts';
import { AuditTrail } from '../../controller/audit/trail.ts';
import { feeder } from '../../controller/audit/witness/feeder.ts';
import { fileWitness } from '../../controller/audit/witness/file-witness.ts';
import { WitnessedLog } from '../../controller/audit/witness/log.ts';
import { clock, useClock } from '../../shared/util/clock.ts';
import { execute } from '../support/controller.ts';
import { isRoot } from '../support/scratch.ts';
import { entry, type TrailRoom, until, withTrail } from '../support/trail.ts';

const ORIGIN = 'storage.example/audit';
const DAY_MS = 24 * 3600_000;
const system = clock;
/** From now on it is so much later. */
const pass = (days: number): void => useClock({ ...system, now: () => system.now() + days * DAY_MS });
afterEach(() => useClock(system));

const directoryOf = (room: TrailRoom): string => join(room.directory, 'archives');
const start = (room: TrailRoom, keepDays = 10, arrived = async () => Number.POSITIVE_INFINITY): Duty =>
  room.run(archives({ ...room, arrived }, { directory: directoryOf(room), keepMs: keepDays * DAY_MS }));
const filesOf = (room: TrailRoom): string[] =>
  existsSync(directoryOf(room)) ? readdirSync(directoryOf(room)).sort() : [];
const append = async (room: TrailRoom, count: number): Promise<void> => {
  for (let index = 0; index < count; index++) await room.trail.append(entry(`h/p/later${index}`));
};
const numbers = async ({ store }: TrailRoom): Promise<number[]> =>
  (await store.db.selectFrom('audit').select('seq').orderBy('seq').execute()).map(({ seq }) => seq);
const from = (first: number, last: number): number[] =>
  Array.from({ length: last - first + 1 }, (_, index) => first + index);

/** Archives until there is nothing more to archive. */
async function archive(room: TrailRoom): Promise<void> {
  const duty = start(room);
  await until(() => duty.state.isFlowing);
  await duty.close();
}

async function exported(room: TrailRoom): Promise<string> {
  const lines: string[] = [];
  for await (const line of room.trail.export()) lines.push(`${line}\n`);
  const path = join(room.directory, 'export');
  writeFileSync(path, lines.join(''));
  writeFileSync(join(room.directory, 'key.pem'), room.trail.publicKey);
  return path;
}

const verify = (room: TrailRoom, ...parts: string[]) =>
  execute(process.execPath, [
    'controller/audit/stowage-verify.ts',
    ...parts,
    join(room.directory, 'key.pem'),
  ]);

const ONE = 'trail-000000000001-000000000030.jsonl.gz';
const TWO = 'trail-000000000031-000000000051.jsonl.gz';

/** 30 records of day 0, 20 of day 5, 5 of day 30; those of the first days, and what was recorded of that, are in two archives. */
async function withArchives(): Promise<TrailRoom> {
  const room = await withTrail(30);
  pass(5);
  await append(room, 20);
  pass(12);
  await archive(room);
  pass(30);
  await append(room, 5);
  await archive(room);
  return room;
}

describe('old records of the trail go into archives', () => {
  test('and leave the store; archives and export are one trail, each part by itself is whole', async () => {
    await using room = await withArchives();
    assert.deepEqual(filesOf(room), [ONE, TWO]);
    // The 57th tells of the second archive.
    assert.deepEqual(await numbers(room), from(52, 57));
    const [last] = await room.trail.list(1);
    assert.equal(last?.action, 'audit.archive');
    const digest = createHash('sha256')
      .update(readFileSync(join(directoryOf(room), TWO)))
      .digest('hex');
    assert.equal(last?.detail, `records 31 to 51 are in ${TWO}, SHA-256 ${digest}`);
    const verdict = await room.trail.verify();
    assert.deepEqual([verdict.ok, verdict.first, verdict.records], [true, 52, 6]);
    await append(room, 1);

    const path = await exported(room);
    const [one, two] = [ONE, TWO].map((name) => join(directoryOf(room), name)) as [string, string];
    const whole = await verify(room, one, two, path);
    assert.equal(whole.status, 0, whole.stdout + whole.stderr);
    assert.match(whole.stdout, /whole: 58 records, signed/);
    assert.match(
      (await verify(room, path)).stdout,
      /whole: 7 records after record 51, of those before nothing is known, signed/,
    );
    assert.match((await verify(room, two, path)).stdout, /whole: 28 records after record 30, of those/);
    assert.match((await verify(room, one)).stdout, /whole: 30 records, signed/);

    const lines = gunzipSync(readFileSync(two)).toString().split('\n');
    const changed = (name: string, text: string): string => {
      writeFileSync(join(room.directory, name), gzipSync(text));
      return join(room.directory, name);
    };
    const cases: [string, string[], RegExp][] = [
      ['without the one in the middle', [one, path], /record 51: record 51 is not the one/],
      [
        'a record less',
        [one, changed('less.gz', lines.toSpliced(5, 1).join('\n')), path],
        /record 35: record 35 is missing/,
      ],
      [
        'changed',
        [one, changed('changed.gz', lines.join('\n').replace('"actor":"ada"', '"actor":"eve"')), path],
        /record 31: .*changed/,
      ],
      [
        'a record that is a note, too',
        [
          one,
          changed(
            'both.gz',
            lines.toSpliced(5, 0, JSON.stringify({ ...JSON.parse(lines[5]!), witnessed: 'x' })).join('\n'),
          ),
          path,
        ],
        /where record 35 should be there is none/,
      ],
      ['cut', [one, changed('cut.gz', lines.slice(0, 10).join('\n')), path], /its signed end is missing/],
      [
        'what it follows on',
        [changed('other.gz', lines.join('\n').replace('"seq":30', '"seq":29')), path],
        /record 1: that it follows on record 29 is not signed/,
      ],
    ];
    for (const [name, parts, words] of cases) {
      const { status, stdout, stderr } = await verify(room, ...parts);
      assert.equal(status, 1, `${name}: ${stdout}${stderr}`);
      assert.match(stdout, words, name);
    }
    const empty = join(room.directory, 'empty');
    writeFileSync(empty, '\n \n');
    for (const parts of [
      [two, one, path],
      [one, one, two, path],
      [one, two, one],
      [one, empty, two],
      [empty],
    ])
      assert.equal((await verify(room, ...parts)).status, 2, parts.join(' '));
    const bomb = join(room.directory, 'bomb.gz');
    writeFileSync(bomb, gzipSync(Buffer.alloc(64 << 20, 'x')));
    assert.match((await verify(room, one, bomb)).stderr, /longer than any/);
    const torn = join(room.directory, 'torn.gz');
    writeFileSync(torn, readFileSync(two).subarray(0, 200));
    assert.equal((await verify(room, one, torn, path)).status, 2);
  });

  test('what a witness has seen is compared across archives', async () => {
    await using room = await withTrail(30);
    const log = new WitnessedLog(ORIGIN, room.trail);
    const file = join(room.directory, 'checkpoints.jsonl');
    const witness = room.run(feeder({ ...room, log }, fileWitness(file, 50)));
    const seen = (count: number) =>
      until(() => existsSync(file) && readFileSync(file, 'utf8').includes(`audit\\n${count}\\n`));
    await seen(30);
    pass(5);
    await append(room, 20);
    await seen(50);
    await witness.close();
    pass(12);
    await archive(room);
    assert.deepEqual(filesOf(room), [ONE]);
    const again = room.run(feeder({ ...room, log }, fileWitness(file, 50)));
    await seen(51);
    await again.close();
    const path = await exported(room);
    const one = join(directoryOf(room), ONE);
    const options = ['--origin', ORIGIN, '--witness', log.key, '--checkpoints', file];
    const all = await verify(room, ...options, one, path);
    assert.match(
      all.stdout,
      /whole: 51 records.*\ncheckpoints of storage\.example\/audit that were kept elsewhere go up to record 51/,
      all.stderr,
    );
    assert.match((await verify(room, ...options, path)).stdout, /up to record 51/);
    const notes = readFileSync(file, 'utf8');
    writeFileSync(file, notes.replace('audit\\n50\\n', 'audit\\n49\\n'));
    assert.equal(
      (await verify(room, ...options, one, path)).status,
      0,
      'what is not signed counts for nothing',
    );
    assert.equal(
      (await room.trail.verify({ seen: { origin: ORIGIN, witnesses: [noteKey(log.key)] } })).ok,
      true,
    );
    await append(room, 1);
    pass(15);
    await append(room, 1);
    const late = await exported(room);
    const unseen = await verify(room, ...options, one, late);
    assert.equal(unseen.status, 2);
    assert.match(unseen.stdout, /nobody has seen the records after 51, of more than a day/);
  });

  test('a witness that was away longer than records are kept begins anew when it has forgotten them', async () => {
    await using room = await withTrail(30);
    const log = new WitnessedLog(ORIGIN, room.trail);
    const file = join(room.directory, 'checkpoints.jsonl');
    const feed = () => room.run(feeder({ ...room, log }, fileWitness(file, 50)));
    const first = feed();
    await until(() => first.state.isFlowing);
    await first.close();
    await append(room, 20);
    pass(20);
    await archive(room);
    const second = feed();
    assert.match(
      (await until(() => second.state.standstill)).reason,
      /seen 30 records, and the next are in archives/,
    );
    await second.close();
    rmSync(file);
    const third = feed();
    await until(() => third.state.isFlowing);
  });

  test('what a witness has seen where a part begins counts', async () => {
    await using room = await withArchives();
    const log = new WitnessedLog(ORIGIN, room.trail);
    const forged = new Frontier();
    for (let index = 0; index < 51; index++) forged.append(leafOf('00'));
    const path = await exported(room);
    const note = room.directory;
    writeFileSync(join(note, 'note'), log.checkpoint(forged));
    const options = ['--origin', ORIGIN, '--witness', log.key, '--checkpoints', join(note, 'note')];
    const { status, stdout } = await verify(room, ...options, path);
    assert.equal(status, 1);
    assert.match(stdout, /seen another trail up to record 51/);
  });

  test('not before they are a day too old, and never the newest', async () => {
    await using room = await withTrail(5);
    pass(10.9);
    await archive(room);
    assert.deepEqual(filesOf(room), []);
    pass(400);
    await archive(room);
    // The fifth was the newest until the first archive was on record.
    const left = await numbers(room);
    assert.equal(left.at(-1), (await room.store.audit.last())?.seq);
    await append(room, 1);
    assert.deepEqual(await numbers(room), [...left, left.at(-1)! + 1]);
    assert.ok((await room.trail.verify()).ok);
  });

  test('a clock that is wrong archives nothing too early, and stops nothing for ever', async () => {
    await using room = await withTrail(5);
    pass(-4000);
    await archive(room);
    assert.deepEqual(filesOf(room), [], 'of a clock that was set back every record is of the future');
    pass(30_000);
    await append(room, 1);
    pass(1);
    await append(room, 4);
    pass(20);
    await archive(room);
    assert.equal(filesOf(room)[0], 'trail-000000000001-000000000009.jsonl.gz');
    await using first = await withTrail(0);
    pass(30_000);
    await append(first, 2);
    pass(1);
    await append(first, 3);
    pass(20);
    await archive(first);
    assert.equal(filesOf(first)[0], 'trail-000000000001-000000000004.jsonl.gz');
  });

  test('not before they have arrived everywhere', async () => {
    await using room = await withTrail(50);
    pass(20);
    const held = start(room, 10, async () => 20);
    await until(() => held.state.isFlowing);
    await held.close();
    assert.deepEqual((await numbers(room))[0], 21);
    // Whoever has exactly what is archived goes on.
    const behind = join(room.directory, 'behind.jsonl');
    const [archived] = filesOf(room);
    const lines = gunzipSync(readFileSync(join(directoryOf(room), archived!)))
      .toString()
      .split('\n');
    writeFileSync(behind, `${lines.filter((line) => line.includes('"previous"')).join('\n')}\n`);
    const goesOn = room.run(forwarder(room, fileDestination(behind)));
    await until(() => goesOn.state.isFlowing);
    assert.equal(readFileSync(behind, 'utf8').split('\n').length - 1, 51);
    // One that is new gets what is in the store.
    const file = join(room.directory, 'audit.jsonl');
    const duty = room.run(forwarder(room, fileDestination(file)));
    await until(() => duty.state.isFlowing);
    assert.match(readFileSync(file, 'utf8'), /^\{"seq":21,/);
    await duty.close();
    // One that has less, as it was restored, says so and leaves no gap.
    writeFileSync(file, `${lines.filter((line) => line.includes('"previous"'))[9]}\n`);
    const older = room.run(forwarder(room, fileDestination(file)));
    assert.match((await until(() => older.state.standstill)).reason, /record 11 is in an archive only/);
  });

  test('a kill between any two steps loses nothing and archives nothing twice', async () => {
    await using room = await withTrail(40);
    pass(20);
    // Killed with the archive half written.
    mkdirSync(directoryOf(room));
    writeFileSync(join(directoryOf(room), 'unfinished.jsonl.gz'), 'half');
    // Killed when the archive had its name, before that was on record: another one would be longer by now.
    const before = start(room, 10, async () => 25);
    await until(() => before.state.isFlowing);
    await before.close();
    const [name] = filesOf(room);
    assert.equal(name, 'trail-000000000001-000000000025.jsonl.gz');
    const bytes = readFileSync(join(directoryOf(room), name!));
    await using other = await withTrail(0);
    cpSync(join(room.directory, 'audit-key.pem'), join(other.directory, 'audit-key.pem'));
    const records = gunzipSync(bytes)
      .toString()
      .split('\n')
      .filter((line) => line.includes('"previous"'));
    for (const line of records) await other.store.db.insertInto('audit').values(JSON.parse(line)).execute();
    assert.equal(records.length, 25);
    const rest = await room.store.db.selectFrom('audit').selectAll().orderBy('seq').execute();
    for (const row of rest) await other.store.db.insertInto('audit').values(row).execute();
    const [checkpoint] = await room.store.audit.checkpoints();
    await other.store.transaction(({ audit }) => audit.replaceCheckpoint(checkpoint!));
    mkdirSync(directoryOf(other));
    writeFileSync(join(directoryOf(other), name!), bytes);
    const whole = { ...other, trail: new AuditTrail(other.store, other.directory) };
    await archive(whole);
    assert.deepEqual(filesOf(other)[0], name);
    assert.deepEqual(readFileSync(join(directoryOf(other), name!)), bytes);
    assert.ok(filesOf(other).every((file) => file === name || file.startsWith('trail-000000000026-')));
    assert.ok((await whole.trail.verify()).ok);

    // Killed when it was on record, before the records were dropped.
    for (const line of records) await room.store.db.insertInto('audit').values(JSON.parse(line)).execute();
    assert.ok((await room.trail.verify()).ok);
    await archive(room);
    assert.ok((await numbers(room)).every((seq) => seq > 25));
  });

  test('what is not whole is not archived, and what lies in the way is left', async () => {
    await using room = await withTrail(30);
    pass(20);
    await room.store.db.updateTable('audit').set({ actor: 'eve' }).where('seq', '=', 7).execute();
    const tampered = start(room);
    assert.match(
      (await until(() => tampered.state.standstill)).reason,
      /nothing is archived: record 7 was changed/,
    );
    await tampered.close();
    assert.deepEqual(filesOf(room), []);
    await room.store.db.updateTable('audit').set({ actor: 'ada' }).where('seq', '=', 7).execute();
    useClock(system);
    await using other = await withArchives();
    pass(20);
    const foreign = readFileSync(join(directoryOf(other), ONE));
    mkdirSync(directoryOf(room));
    writeFileSync(join(directoryOf(room), ONE), foreign);
    const duty = start(room);
    assert.match(
      (await until(() => duty.state.standstill)).reason,
      /not whole: .* not signed by this controller/,
    );
    await duty.close();
    assert.deepEqual(readFileSync(join(directoryOf(room), ONE)), foreign);
    assert.equal((await numbers(room)).length, 30);
  });

  test('on a full disk they stay in the store', {
    skip: !isRoot && 'only root mounts a small disk',
  }, async () => {
    await using room = await withTrail(200);
    pass(20);
    const disk = directoryOf(room);
    mkdirSync(disk);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8k', 'tmpfs', disk]);
    try {
      const duty = start(room);
      await until(() => duty.state.standstill?.reason.includes('ENOSPC'));
      assert.equal((await numbers(room)).length, 200);
      execFileSync('mount', ['-o', 'remount,size=4m', disk]);
      await until(() => duty.state.isFlowing && !duty.state.standstill);
      await duty.close();
      assert.equal(filesOf(room)[0], 'trail-000000000001-000000000199.jsonl.gz');
    } finally {
      execFileSync('umount', ['-l', disk]);
    }
  });

  test('whoever reads while they go is told, and gets no trail with a gap', async () => {
    await using room = await withTrail(1200);
    pass(20);
    const reading = room.trail.export();
    await reading.next();
    await archive(room);
    await assert.rejects(
      async () => {
        for await (const line of reading) assert.ok(line);
      },
      { code: 'audit-archived' },
    );
  });
});
