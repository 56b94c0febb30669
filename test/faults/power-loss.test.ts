import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { appendFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fsBackend } from '../../agent/backends/fs/index.ts';
import { logicalBackend } from '../../agent/backends/logical/index.ts';
import { OpenPool } from '../../agent/pools/open-pool.ts';
import { Sink } from '../../agent/transfer/sink.ts';
import { poolDefinitionSchema } from '../../shared/conf/pool.ts';
import type { Volume } from '../../shared/conf/volume.ts';
import { inTestHost, nodeInTestHost, runInTestHost } from '../hosts/guest.ts';
import { isRoot, scratch } from '../support/scratch.ts';

const MIB = 1 << 20;
const ROUNDS = Number(process.env.STOWAGE_POWER_ROUNDS ?? 2);
const NAMES = ['a', 'b', 'c', 'd'];
/** What survives the host: written at once by the machine that the host runs on. */
const LOG = '/share/log';
/** On a disk of its own, as on a real host: it loses what was not durable, too. */
const STATE = '/state';

const random = (below: number): number => Math.floor(Math.random() * below);

/** What a volume must be: nothing but what was answered counts. */
interface Expected {
  id: string;
  digest: string;
  sizeBytes: number;
  capacityBytes: number;
}

type Line =
  | { pool: string; begin: Operation }
  | { pool: string; done: Operation; after: Record<string, Expected | null> }
  /** Found after a loss, and sound: what was under way is decided. */
  | { pool: string; found: Record<string, Expected> };

/** `names` are those that it may change. `digest` is what new content has. */
interface Operation {
  what: string;
  names: string[];
  digest?: string;
}

const write = (line: Line): void => appendFileSync(LOG, `${JSON.stringify(line)}\n`);

// ---- in the host ----

async function openPools(): Promise<Record<string, OpenPool>> {
  mkdirSync(STATE, { recursive: true });
  const isFirst = !existsSync(LOG);
  if (isFirst) execFileSync('mkfs.ext4', ['-q', '/dev/vdd']);
  execFileSync('mount', ['/dev/vdd', STATE]);
  const pools: Record<string, OpenPool> = {};
  for (const [name, backend, definition] of [
    [
      'files',
      fsBackend,
      { source: { devices: [{ path: '/dev/vdb' }], format: 'ext4' }, target: { path: '/mnt/files' } },
    ],
    [
      'group',
      logicalBackend,
      { source: { name: 'vg0', devices: [{ path: '/dev/vdc' }] }, target: { path: '/dev/vg0' } },
    ],
    ['thin', logicalBackend, { source: { name: 'vg1/thin' }, target: { path: '/dev/vg1' } }],
  ] as const) {
    const uuid = `00000000-0000-4000-8000-00000000000${Object.keys(pools).length}`;
    const complete = poolDefinitionSchema.parse({ name, uuid, type: backend.type, ...definition });
    const state = join(STATE, name);
    mkdirSync(state, { recursive: true });
    pools[name] = new OpenPool(
      backend.open(complete, {
        agentId: 'power',
        stateDirectory: async () => state,
        imageDirectories: () => [],
        secret: () => '',
        ownsStorage: true,
        alone: <T>(work: () => Promise<T>) => work(),
      }),
    );
    if (isFirst && name === 'thin') {
      execFileSync('vgcreate', ['--yes', 'vg1', '/dev/vde'], { stdio: 'ignore' });
      const thin = ['--type', 'thin-pool', '--size', '180M', '--name', 'thin', 'vg1'];
      execFileSync('lvcreate', ['--yes', ...thin], { stdio: 'ignore' });
    } else if (isFirst) await pools[name].build(true);
    await pools[name].start();
  }
  return pools;
}

async function contentOf(pool: OpenPool, name: string): Promise<Buffer> {
  await using opened = await pool.open(name, { as: 'content' });
  const bytes = Buffer.alloc(opened.sources[0]!.sizeBytes);
  await opened.sources[0]!.read(bytes, 0);
  return bytes;
}

const digestOf = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

async function upload(
  pool: OpenPool,
  volume: string,
  format: 'raw' | 'qcow2',
  bytes: Buffer,
  replace: boolean,
) {
  const spec = {
    ...{ id: randomUUID(), pool: 'p', volume, format, replace, allowUsed: false },
    ...{ representation: 'content' as const, digest: 'gmac' as const },
    parts: [{ name: '', sizeBytes: bytes.length, dense: false }],
  };
  const sink = await Sink.open(await pool.stage(spec));
  const { map } = sink.digests;
  for (let index = 0; index < map.count; index++) {
    const { offset, length } = map.chunk(index);
    const chunk = Buffer.from(bytes.subarray(offset, offset + length));
    const data = { bytes: chunk, ranges: [{ start: 0, end: length }] };
    await sink.write({ index, digest: await map.digestOf(chunk), verified: Promise.resolve(), data });
  }
  return (await sink.commit(undefined)).volume;
}

const expected = (
  { id, capacityBytes }: Volume,
  { digest, sizeBytes }: Pick<Expected, 'digest' | 'sizeBytes'>,
): Expected => ({
  ...{ id, digest, sizeBytes, capacityBytes },
});

/** Works on one pool, one thing after the other, until the power goes. */
async function workOn(poolName: string, pool: OpenPool, there: Map<string, Expected>): Promise<never> {
  for (;;) {
    const [name, other] = [NAMES[random(4)]!, NAMES[random(4)]!];
    const now = there.get(name);
    const run = async (
      operation: Operation,
      work: () => Promise<Record<string, Expected | null>>,
    ): Promise<void> => {
      write({ pool: poolName, begin: operation });
      const after = await work();
      for (const [key, value] of Object.entries(after)) value ? there.set(key, value) : there.delete(key);
      write({ pool: poolName, done: operation, after });
    };
    if (!now || random(6) === 0) {
      const bytes = Buffer.alloc(MIB + 512 * random(2000), randomUUID());
      const content = { digest: digestOf(bytes), sizeBytes: bytes.length };
      const format = now ? 'raw' : random(3) === 0 ? 'qcow2' : 'raw';
      await run({ what: 'upload', names: [name], digest: content.digest }, async () => ({
        [name]: expected(await upload(pool, name, format, bytes, now !== undefined), content),
      }));
    } else if (random(3) === 0 && !there.has(other))
      await run({ what: 'clone', names: [other], digest: now.digest }, async () => ({
        [other]: expected(await pool.clone(name, other), now),
      }));
    else if (random(2) === 0 && now.capacityBytes < 12 * MIB)
      await run({ what: 'resize', names: [name] }, async () => ({
        [name]: expected(await pool.resize(name, Math.ceil(now.capacityBytes / MIB + 1) * MIB, false), now),
      }));
    else if (random(3) === 0)
      await run({ what: 'trash and restore', names: [name, other] }, async () => {
        if (there.has(other) && other !== name) return {};
        const trashId = randomUUID().replaceAll('-', '').slice(0, 12);
        const was = await pool.look(name);
        await pool.trash(name, trashId, was.etag);
        const back = await pool.restore(trashId, other, was);
        return { [name]: null, [other]: expected(back, now) };
      });
    else
      await run({ what: 'delete', names: [name] }, async () => {
        await pool.remove(name);
        return { [name]: null };
      });
  }
}

/** Whether a name holds what it must, or what an operation under way may have left there. */
function isRight(
  found: { volume: Volume; bytes: Buffer } | undefined,
  must: Expected | undefined,
  underWay: Operation | undefined,
): boolean {
  const isAsBefore =
    found && must
      ? found.volume.id === must.id &&
        digestOf(found.bytes.subarray(0, must.sizeBytes)) === must.digest &&
        (found.volume.capacityBytes === must.capacityBytes || underWay?.what === 'resize')
      : found === must;
  if (isAsBefore || !underWay) return isAsBefore;
  if (!found) return underWay.what === 'delete' || underWay.what === 'trash and restore';
  return underWay.what !== 'delete' && underWay.what !== 'resize';
}

/** Looks at everything after a loss. Throws where something that was answered is not so. */
async function verify(poolName: string, pool: OpenPool, lines: Line[]): Promise<Map<string, Expected>> {
  const must = new Map<string, Expected>();
  let underWay: Operation | undefined;
  for (const line of lines) {
    if ('begin' in line) underWay = line.begin;
    else if ('done' in line) {
      underWay = undefined;
      for (const [key, value] of Object.entries(line.after)) value ? must.set(key, value) : must.delete(key);
    } else {
      underWay = undefined;
      must.clear();
      for (const [key, value] of Object.entries(line.found)) must.set(key, value);
    }
  }
  await pool.refresh();
  const found: Record<string, Expected> = {};
  for (const name of NAMES) {
    const volume = await pool.look(name).catch((error) => {
      if (error.code !== 'volume-not-found') throw error;
      return undefined;
    });
    const bytes = volume ? await contentOf(pool, name) : Buffer.alloc(0);
    const about = underWay?.names.includes(name) ? underWay : undefined;
    const words = `${poolName}/${name}: ${JSON.stringify(volume)}, not ${JSON.stringify(must.get(name))}; under way: ${JSON.stringify(underWay)}`;
    assert.ok(isRight(volume && { volume, bytes }, must.get(name), about), words);
    assert.equal(volume?.damaged, undefined, words);
    if (!volume) continue;
    const isOld =
      must.get(name)?.sizeBytes !== undefined &&
      digestOf(bytes.subarray(0, must.get(name)!.sizeBytes)) === must.get(name)!.digest;
    const content = isOld ? must.get(name)! : { digest: digestOf(bytes), sizeBytes: bytes.length };
    found[name] = expected(volume, content);
  }
  // What is left can be taken away, and then nothing is.
  for (const stage of await pool.stages()) await stage.drop();
  for (const id of await pool.trashed()) await pool.purge(id);
  await pool.stop();
  await pool.start();
  assert.deepEqual(await pool.orphans(), [], `${poolName} after ${underWay?.what}`);
  write({ pool: poolName, found });
  return new Map(Object.entries(found));
}

async function inHost(): Promise<void> {
  const pools = await openPools();
  const lines: Line[] = existsSync(LOG)
    ? readFileSync(LOG, 'utf8')
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line))
    : [];
  const work: Promise<never>[] = [];
  for (const [name, pool] of Object.entries(pools)) {
    const there = await verify(
      name,
      pool,
      lines.filter((line) => line.pool === name),
    );
    if (process.env.STOWAGE_ONLY_LOOK === undefined) work.push(workOn(name, pool, there));
    else await pool.stop();
  }
  await Promise.all(work);
}

// ---- around the host ----

async function aroundHost(): Promise<void> {
  await using room = scratch();
  const log = join(room.path, 'log');
  const linesOf = (): string[] =>
    existsSync(log) ? readFileSync(log, 'utf8').split('\n').filter(Boolean) : [];
  const options = { disksMiB: [128, 256, 64, 256] };
  for (let round = 0; round <= ROUNDS; round++) {
    const before = linesOf().length;
    const isLast = round === ROUNDS;
    const outcome = await runInTestHost(
      room.path,
      nodeInTestHost(import.meta.url, isLast ? { STOWAGE_ONLY_LOOK: '1' } : {}),
      {
        ...options,
        async losePower(ended) {
          if (isLast) await once(ended, 'abort');
          const many = before + 9 + random(30);
          while (!ended.aborted && linesOf().length < many) await sleep(20);
          await sleep(random(150));
        },
      },
    );
    assert.equal(outcome.status, isLast ? 0 : undefined, outcome.output);
  }
  const done = linesOf().filter((line) => line.includes('"done"')).length;
  assert.ok(done >= ROUNDS * 5, `${done} operations in ${ROUNDS} rounds`);
}

if (inTestHost) await inHost();
else
  test(
    `a host that loses power in the middle of anything has what it answered for, and leaves nothing (${ROUNDS} losses)`,
    {
      skip: isRoot ? false : 'building the disk of a test host needs root',
    },
    aroundHost,
  );
