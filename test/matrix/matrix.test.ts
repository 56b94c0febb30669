import assert from 'node:assert/strict';
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import type { Backend } from '../../agent/backends/backend.ts';
import { btrfsBackend } from '../../agent/backends/btrfs/index.ts';
import { dirBackend } from '../../agent/backends/dir/index.ts';
import { glusterBackend } from '../../agent/backends/gluster/index.ts';
import { iscsiDirectBackend } from '../../agent/backends/iscsi-direct/index.ts';
import { netfsBackend } from '../../agent/backends/netfs/index.ts';
import { rbdBackend } from '../../agent/backends/rbd/index.ts';
import { loadBackends } from '../../agent/backends/registry.ts';
import { testBackend } from '../../agent/backends/test/index.ts';
import { OpenPool } from '../../agent/pools/open-pool.ts';
import { Sink } from '../../agent/transfer/sink.ts';
import { poolDefinitionSchema } from '../../shared/conf/pool.ts';
import type { VolumeFormat } from '../../shared/conf/volume.ts';
import { CHUNK_BYTES } from '../../shared/transfer/chunks.ts';
import { startCeph } from '../support/ceph.ts';
import { startGluster } from '../support/gluster.ts';
import { isRoot, mountFileSystem, scratch } from '../support/scratch.ts';
import { startTarget } from '../support/tgt.ts';

const MIB = 1 << 20;
const BLOCK = 64 << 10;

/** A running pool of one kind, and volumes of it that are there from the beginning. */
interface Place {
  pool: OpenPool;
  formats: readonly VolumeFormat[];
  /** What a byte takes at least. */
  grainBytes: number;
  /** Where a volume is not made: what is written over. */
  unit?: string;
}

const room = scratch();
const ends: (() => unknown)[] = [];
after(async () => {
  for (const end of ends.reverse()) await end();
  await room[Symbol.asyncDispose]();
});

async function open(name: string, backend: Backend, definition: Record<string, unknown>): Promise<Place> {
  const state = join(room.path, `${name}-state`);
  mkdirSync(state);
  const complete = poolDefinitionSchema.parse({
    name,
    uuid: randomUUID(),
    type: backend.type,
    ...definition,
  });
  backend.check(complete);
  const services = {
    agentId: 'matrix',
    stateDirectory: async () => state,
    imageDirectories: () => [],
    secret: () => '',
    ownsStorage: true,
    alone: <T>(work: () => Promise<T>) => work(),
  };
  const pool = new OpenPool(backend.open(complete, services));
  await pool.start();
  ends.push(() => pool.stop());
  // What is encrypted has no holes; the conformance suites move it. A vmdk image is the same file in every pool of files.
  const isTried = (format: VolumeFormat): boolean =>
    format !== 'luks' && (format !== 'vmdk' || isWhole || name === 'dir');
  const formats = backend.traits.formats.filter(isTried);
  return { pool, formats, grainBytes: 2 * MIB };
}

/** How a pool of each kind comes to be on this machine. Those that need a kernel of their own are tried in test hosts. */
const PLACES: Record<string, () => Promise<Place>> = {
  dir: () => {
    mkdirSync(join(room.path, 'dir'));
    return open('dir', dirBackend, { target: { path: join(room.path, 'dir') } });
  },
  test: () => open('test', testBackend, {}),
  ...(isRoot && {
    'fs (xfs)': async () => {
      const target = join(room.path, 'xfs');
      mkdirSync(target);
      const mounted = mountFileSystem('xfs', 512, target);
      ends.push(() => mounted[Symbol.asyncDispose]());
      // A directory of it, as the mount is the test's own.
      mkdirSync(join(target, 'pool'));
      return open('xfs', dirBackend, { target: { path: join(target, 'pool') } });
    },
    btrfs: async () => {
      const target = join(room.path, 'btrfs');
      mkdirSync(target);
      const mounted = mountFileSystem('btrfs', 512, target);
      ends.push(() => mounted[Symbol.asyncDispose]());
      mkdirSync(join(target, 'pool'));
      return open('btrfs', btrfsBackend, { target: { path: join(target, 'pool') } });
    },
    netfs: async () => {
      const { address } = await gluster();
      return open('netfs', netfsBackend, {
        target: { path: join(room.path, 'netfs') },
        source: { hosts: [{ name: address }], dir: 'gv0', format: 'glusterfs' },
      });
    },
    gluster: async () => {
      // A directory beside the volumes of the mounted one.
      await placeOf('netfs');
      mkdirSync(join(room.path, 'netfs/beside'));
      const { address } = await gluster();
      return open('gluster', glusterBackend, {
        source: { hosts: [{ name: address }], name: 'gv0', dir: '/beside' },
      });
    },
    rbd: async () => {
      const cluster = await startCeph();
      ends.push(() => cluster[Symbol.asyncDispose]());
      const place = await open('rbd', rbdBackend, {
        source: { hosts: [cluster.monitor], name: 'rbd' },
        configOptions: [{ name: 'keyring', value: cluster.keyring }],
      });
      // It counts whole objects.
      return { ...place, grainBytes: 8 * MIB };
    },
  }),
  'iscsi-direct': async () => {
    const target = await startTarget(room.path, [32]);
    ends.push(() => target[Symbol.asyncDispose]());
    const place = await open('iscsi', iscsiDirectBackend, {
      source: {
        hosts: [target.portal],
        devices: [{ path: target.iqn }],
        initiatorIqn: 'iqn.2026-01.test:matrix',
      },
    });
    // Content is not made into qcow2 in place.
    return { ...place, formats: ['raw'], unit: 'unit:0:0:1' };
  },
};

/** Backends that have no place here, and why. */
const ELSEWHERE: Record<string, string> = {
  disk: 'its partitions are devices as those of logical; its conformance suite copies',
  fs: 'a file system is a place, on a mount of the test',
  iscsi: 'needs a kernel of its own: the units of iscsi-direct are the same',
  logical: 'needs a kernel of its own',
  mpath: 'needs a kernel of its own',
  scsi: 'needs a kernel of its own',
  vstorage: 'a directory whose mount is a stand-in: the same files as dir',
  zfs: 'needs a kernel of its own',
  proxmox: 'its volumes are files as those of dir, in other directories and by other names',
  ...(!isRoot && { btrfs: 'needs root', netfs: 'needs root', gluster: 'needs root', rbd: 'needs root' }),
};

test('every backend has a place, or a reason for none', async () => {
  const types = (await loadBackends(undefined)).list().map(({ type }) => type);
  const named = new Set([...Object.keys(PLACES), ...Object.keys(ELSEWHERE)]);
  assert.deepEqual(
    types.filter((type) => !named.has(type)),
    [],
  );
  assert.deepEqual(
    Object.keys(ELSEWHERE).filter((type) => !types.includes(type)),
    [],
  );
});

let started: ReturnType<typeof startGluster> | undefined;
function gluster(): ReturnType<typeof startGluster> {
  if (!started) {
    started = startGluster(join(room.path, 'gluster'));
    ends.push(async () => (await started)?.[Symbol.asyncDispose]());
  }
  return started;
}

const places = new Map<string, Promise<Place>>();
const placeOf = (name: string): Promise<Place> => {
  const place = places.get(name) ?? PLACES[name]!();
  places.set(name, place);
  return place;
};

/** What is in each volume: data, a hole larger than a chunk, data, and an end that is a multiple of nothing. */
const CONTENT = Buffer.concat([
  randomBytes(CHUNK_BYTES + 4096),
  Buffer.alloc(2 * CHUNK_BYTES),
  randomBytes(MIB),
  Buffer.alloc(MIB + 512),
]);
const DATA_BYTES = CHUNK_BYTES + 4096 + MIB;
const DIGEST = createHash('sha256').update(CONTENT).digest('hex');

/** Moves what a source holds into a sink, chunk by chunk; holes and zeros do not travel. Ends after so many chunks. */
async function pour(
  source: Parameters<typeof chunkOf>[0],
  sink: Sink,
  most = Number.POSITIVE_INFINITY,
): Promise<number> {
  let sent = 0;
  const { map } = sink.digests;
  for (let index = 0; index < map.count; index++) {
    if (sink.digests.has(index)) continue;
    if (sent === most) break;
    const { offset, length } = map.chunk(index);
    const bytes = await chunkOf(source, offset, length);
    const digest = bytes ? await map.digestOf(bytes) : map.zeroDigest(length);
    const data = bytes && { bytes, ranges: [...rangesOf(bytes)] };
    await sink.write({ index, digest, verified: Promise.resolve(), data });
    sent++;
  }
  return sent;
}

async function chunkOf(
  source: Pick<import('../../shared/transfer/source.ts').Source, 'extents' | 'read'>,
  offset: number,
  length: number,
): Promise<Buffer<ArrayBuffer> | undefined> {
  let holds = false;
  for await (const extent of source.extents(offset, offset + length)) holds ||= extent.length > 0;
  if (!holds) return undefined;
  const bytes = Buffer.alloc(length);
  await source.read(bytes, offset);
  return bytes.every((byte) => byte === 0) ? undefined : bytes;
}

/** Where a chunk holds anything, in blocks. */
function* rangesOf(bytes: Buffer): Generator<{ start: number; end: number }> {
  for (let start = 0; start < bytes.length; start += BLOCK) {
    const end = Math.min(start + BLOCK, bytes.length);
    if (bytes.subarray(start, end).some((byte) => byte !== 0)) yield { start, end };
  }
}

const inMemory = {
  extents: async function* (from: number, to: number) {
    yield { offset: from, length: to - from };
  },
  read: async (buffer: Uint8Array, offset: number) =>
    void buffer.set(CONTENT.subarray(offset, offset + buffer.length)),
};

const spec = (volume: string, format: VolumeFormat, sizeBytes: number, replace: boolean) => ({
  id: randomUUID(),
  pool: 'p',
  volume,
  format,
  representation: 'content' as const,
  parts: [{ name: '', sizeBytes, dense: false }],
  replace,
  allowUsed: false,
  digest: 'gmac' as const,
});

async function digestOf(pool: OpenPool, name: string): Promise<string> {
  await using opened = await pool.open(name, { as: 'content' });
  const [source] = opened.sources;
  const bytes = Buffer.alloc(source!.sizeBytes);
  await source!.read(bytes, 0);
  assert.ok(
    bytes.subarray(CONTENT.length).every((byte) => byte === 0),
    'something lies behind its end',
  );
  return createHash('sha256').update(bytes.subarray(0, CONTENT.length)).digest('hex');
}

/** A volume with the content of every test, made once. */
const sources = new Map<string, Promise<string>>();
function sourceIn(place: Place, name: string, format: VolumeFormat): Promise<string> {
  const key = `${name} ${format}`;
  const made = sources.get(key) ?? makeSource(place, format);
  sources.set(key, made);
  return made;
}

async function makeSource({ pool, unit }: Place, format: VolumeFormat): Promise<string> {
  const volume = unit ?? `source-${format}`;
  const sink = await Sink.open(await pool.stage(spec(volume, format, CONTENT.length, unit !== undefined)));
  await pour(inMemory, sink);
  await sink.commit(undefined);
  return volume;
}

/** All pairs by `npm run matrix`; in `npm test` each place is tried at both ends. */
const isWhole = process.env.STOWAGE_MATRIX === 'whole';
const names = Object.keys(PLACES);
const COVER = new Set(names.map((name, index) => `${name} to ${names[(index + 1) % names.length]}`));

describe('any volume to any pool', () => {
  for (const from of names)
    for (const to of names) {
      // A unit cannot be both ends of one move.
      if (from === to && from === 'iscsi-direct') continue;
      if (!isWhole && !COVER.has(`${from} to ${to}`)) continue;
      test(`${from} to ${to}`, async (context) => {
        const [source, target] = await Promise.all([placeOf(from), placeOf(to)]);
        for (const fromFormat of source.formats) {
          const name = await sourceIn(source, from, fromFormat);
          for (const toFormat of target.formats)
            await context.test(`${fromFormat} to ${toFormat}`, async () => {
              await using opened = await source.pool.open(name, { as: 'content' });
              const [content] = opened.sources;
              const volume = target.unit ?? 'target';
              const wanted = spec(volume, toFormat, content!.sizeBytes, target.unit !== undefined);
              try {
                // Cut after two chunks, and taken up again.
                const first = await Sink.open(await target.pool.stage(wanted));
                assert.equal(await pour(content!, first, 2), 2);
                await first.close();
                const [stage] = await target.pool.stages(wanted.id);
                const sink = await Sink.open(stage!);
                assert.equal(await pour(content!, sink), sink.digests.map.count - 2, 'nothing is sent twice');
                const { volume: moved } = await sink.commit(undefined);
                await opened.checkUnchanged();
                assert.equal(moved.format, toFormat);
                assert.ok(moved.capacityBytes >= content!.sizeBytes);
                assert.equal(await digestOf(target.pool, volume), DIGEST);
                if (target.unit === undefined && toFormat !== 'ploop')
                  assert.ok(
                    moved.allocationBytes <= DATA_BYTES + target.grainBytes,
                    `its holes are full: ${moved.allocationBytes}`,
                  );
              } finally {
                if (target.unit === undefined) await target.pool.remove(volume).catch(() => undefined);
                else sources.delete(`${to} raw`);
              }
            });
        }
      });
    }
});
