import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { open, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { checkVolume } from '../../agent/formats/ploop/check.ts';
import { PloopContent, writeContent } from '../../agent/formats/ploop/content.ts';
import { convertVolume } from '../../agent/formats/ploop/convert.ts';
import { createVolume } from '../../agent/formats/ploop/create.ts';
import { growVolume } from '../../agent/formats/ploop/grow.ts';
import { volumeInfo } from '../../agent/formats/ploop/info.ts';
import {
  createSnapshot,
  deleteSnapshot,
  flatten,
  switchSnapshot,
} from '../../agent/formats/ploop/snapshot.ts';
import { changeVolume } from '../../agent/formats/ploop/volume.ts';
import type { Source } from '../../shared/transfer/source.ts';
import { ploopTool, ploopToolOk, qemuImg } from '../support/ploop-tool.ts';
import { isRoot, scratch } from '../support/scratch.ts';

/** What the volume must hold, kept beside it: the content of the current state and of each snapshot. */
interface Model {
  content: Buffer;
  snapshots: Map<string, Buffer>;
}

type Operation =
  | { kind: 'write'; cluster: number; count: number }
  | { kind: 'snapshot' }
  | { kind: 'switch'; pick: number }
  | { kind: 'delete'; pick: number }
  | { kind: 'grow'; clusters: number }
  | { kind: 'flatten' }
  | { kind: 'convert'; version: 1 | 2; layout: 'expanded' | 'preallocated' }
  | { kind: 'tool-snapshot' }
  | { kind: 'tool-grow'; clusters: number };

const operation: fc.Arbitrary<Operation> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('write' as const),
      cluster: fc.nat(200),
      count: fc.integer({ min: 1, max: 5 }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('snapshot' as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('switch' as const), pick: fc.nat(20) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('delete' as const), pick: fc.nat(20) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('grow' as const),
      clusters: fc.integer({ min: 1, max: 20_000 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('flatten' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('convert' as const),
      version: fc.constantFrom(1 as const, 2 as const),
      layout: fc.constantFrom('expanded' as const, 'preallocated' as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('tool-snapshot' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('tool-grow' as const),
      clusters: fc.integer({ min: 1, max: 300 }),
    }),
  },
);

/** Grown sizes stay small: the model is compared byte by byte. */
const MOST_BYTES = 24 << 20;

async function readAll(directory: string, guid?: string): Promise<Buffer> {
  const content = await PloopContent.open(directory, guid);
  try {
    const bytes = Buffer.alloc(content.sizeBytes);
    await content.read(bytes, 0);
    return bytes;
  } finally {
    await content.close();
  }
}

async function write(directory: string, offset: number, data: Buffer): Promise<void> {
  await changeVolume(directory, async (volume) => {
    const top = volume.descriptor.images.find((image) => image.guid === volume.descriptor.topGuid)!.file;
    await using chain = await volume.openChain(undefined, (file) => file === top);
    await chain.top.begin();
    const { clusterBytes } = chain.top;
    for (let done = 0; done < data.length; done += clusterBytes)
      await chain.top.writeCluster((offset + done) / clusterBytes, data.subarray(done, done + clusterBytes));
    await chain.top.commit();
  });
}

async function apply(directory: string, model: Model, step: Operation, clusterBytes: number): Promise<void> {
  const guids = [...model.snapshots.keys()];
  const clusters = model.content.length / clusterBytes;
  switch (step.kind) {
    case 'write': {
      const cluster = step.cluster % clusters;
      const data = randomBytes(Math.min(step.count, clusters - cluster) * clusterBytes);
      await write(directory, cluster * clusterBytes, data);
      data.copy(model.content, cluster * clusterBytes);
      return;
    }
    case 'snapshot':
      model.snapshots.set(await createSnapshot(directory), Buffer.from(model.content));
      return;
    case 'tool-snapshot': {
      const before = await volumeInfo(directory);
      const { status, output } = ploopTool('snapshot', join(directory, 'DiskDescriptor.xml'));
      // ploop 1.15 itself cannot make a snapshot while one that it deleted itself is kept for two others.
      if (status === 1 && before.snapshots.some(({ temporary }) => temporary)) return;
      assert.equal(status, 0, `ploop snapshot: ${output}`);
      const { snapshots } = await volumeInfo(directory);
      const made = snapshots.find(({ guid, current }) => !current && !model.snapshots.has(guid))!;
      model.snapshots.set(made.guid, Buffer.from(model.content));
      return;
    }
    case 'switch': {
      const guid = guids[step.pick % guids.length];
      if (!guid) return;
      const { snapshots } = await volumeInfo(directory);
      if (snapshots.find((snapshot) => snapshot.guid === guid)?.temporary) {
        await assert.rejects(switchSnapshot(directory, guid), { code: 'snapshot-not-found' });
        return;
      }
      await switchSnapshot(directory, guid);
      model.content = Buffer.from(model.snapshots.get(guid)!);
      return;
    }
    case 'delete': {
      const guid = guids[step.pick % guids.length];
      if (!guid) return;
      // One with several children is only marked, and stays readable.
      if ((await deleteSnapshot(directory, guid)) === 'deleted') model.snapshots.delete(guid);
      return;
    }
    case 'grow':
    case 'tool-grow': {
      const size = Math.min(
        model.content.length + step.clusters * clusterBytes,
        Math.max(MOST_BYTES, model.content.length),
      );
      if (step.kind === 'grow') await growVolume(directory, size);
      else ploopToolOk('grow', '-s', String(size / 512), join(directory, 'DiskDescriptor.xml'));
      model.content = Buffer.concat([model.content, Buffer.alloc(size - model.content.length)]);
      return;
    }
    case 'flatten': {
      const { snapshots } = await volumeInfo(directory);
      const parents = snapshots.map(({ parentGuid }) => parentGuid);
      const branches = new Set(parents).size !== parents.length;
      if (branches) {
        await assert.rejects(flatten(directory), { code: 'volume-has-snapshots' });
        return;
      }
      const leaves = snapshots.filter(({ guid }) => !parents.includes(guid));
      if (leaves.length !== 1) return;
      await flatten(directory);
      model.snapshots.clear();
      return;
    }
    case 'convert':
      if (model.snapshots.size > 0) {
        const info = await volumeInfo(directory);
        // Asked for what it is already, a conversion has nothing to refuse.
        if (info.version === step.version && info.layout === step.layout) return;
        await assert.rejects(convertVolume(directory, step), { code: 'volume-has-snapshots' });
        return;
      }
      await convertVolume(directory, step);
  }
}

async function verify(directory: string, model: Model): Promise<void> {
  assert.ok((await readAll(directory)).equals(model.content), 'the current state reads back');
  for (const [guid, content] of model.snapshots) {
    const actual = await readAll(directory, guid);
    assert.ok(actual.equals(content.subarray(0, actual.length)), `snapshot ${guid} reads back`);
  }
  assert.deepEqual(
    await checkVolume(directory, { repair: false }).then((findings) => findings.filter(({ fatal }) => fatal)),
    [],
  );
  for (const file of (await readdir(directory)).filter((name) => name.startsWith('root.hds'))) {
    const image = join(directory, file);
    const { status, output } = ploopTool('check', '-f', image);
    assert.equal(status, 0, `ploop check -f ${file}: ${output}`);
    assert.match(qemuImg('check', '-f', 'parallels', image), /No errors were found/);
  }
  assert.match(
    ploopToolOk('info', '-s', join(directory, 'DiskDescriptor.xml')),
    new RegExp(`size:\\s+${model.content.length / 512}\\s`),
  );
}

describe('random operations agree with the model, with ploop and with qemu-img', {
  skip: isRoot ? false : 'version 2 in the real tool needs a mount namespace, which needs root',
}, () => {
  for (const { version, clusterSectors } of [
    { version: 1 as const, clusterSectors: 128 },
    { version: 2 as const, clusterSectors: 128 },
    { version: 2 as const, clusterSectors: 2048 },
  ]) {
    test(`version ${version}, clusters of ${clusterSectors / 2} KiB`, async () => {
      const clusterBytes = clusterSectors * 512;
      await fc.assert(
        fc.asyncProperty(fc.array(operation, { minLength: 3, maxLength: 12 }), async (steps) => {
          await using room = scratch();
          const directory = join(room.path, 'volume');
          const capacityBytes = 20 * clusterBytes;
          await createVolume(directory, { capacityBytes, version, clusterSectors });
          const model: Model = { content: Buffer.alloc(capacityBytes), snapshots: new Map() };
          for (const step of steps) await apply(directory, model, step, clusterBytes);
          await verify(directory, model);
          // The real tool merges all into one image; what it then converts to raw must be our content.
          const descriptor = join(directory, 'DiskDescriptor.xml');
          if ((await volumeInfo(directory)).snapshots.length === 1) {
            ploopToolOk('convert', '-f', 'raw', descriptor);
            assert.ok(
              (await readFile(join(directory, 'root.hds'))).equals(model.content),
              'ploop convert gives the same bytes',
            );
          }
        }),
        { numRuns: Number(process.env.STOWAGE_PROPERTY_RUNS ?? 12), endOnFailure: true },
      );
    });
  }
});

describe('interchange with the real tools', () => {
  test('content written by us is read by ploop convert and qemu-img, and the other way round', async () => {
    await using room = scratch();
    const content = Buffer.concat([randomBytes(3 << 20), Buffer.alloc(9 << 20), randomBytes(4 << 20)]);
    const rawPath = join(room.path, 'content.raw');
    const raw = await open(rawPath, 'w+');
    await raw.writeFile(content);
    const source: Source = {
      sizeBytes: content.length,
      async *extents(from, to) {
        yield { offset: from, length: to - from };
      },
      read: async (buffer, offset) => void content.copy(buffer as Buffer, 0, offset, offset + buffer.length),
      close: async () => undefined,
    };
    for (const version of [1, 2] as const) {
      const ours = join(room.path, `ours-${version}`);
      await createVolume(ours, { capacityBytes: content.length, version });
      await changeVolume(ours, async (volume) => {
        await using chain = await volume.openChain(undefined, () => true);
        await writeContent(source, chain.top);
      });
      const back = join(room.path, `back-${version}.raw`);
      qemuImg('convert', '-f', 'parallels', '-O', 'raw', join(ours, 'root.hds'), back);
      assert.ok((await readFile(back)).equals(content), 'qemu-img reads what we wrote');

      // An image that qemu made, with holes in it: refused by the real tool, read and mended by us.
      const theirs = join(room.path, `theirs-${version}`);
      await createVolume(theirs, { capacityBytes: content.length, version });
      qemuImg('convert', '-n', '-f', 'raw', '-O', 'parallels', rawPath, join(theirs, 'root.hds'));
      assert.ok((await readAll(theirs)).equals(content), 'we read what qemu-img wrote');
      await checkVolume(theirs, { repair: true });
      assert.equal(ploopTool('check', '-f', join(theirs, 'root.hds')).status, 0);
    }
    await raw.close();
  });

  test('an image with holes is found and mended', async () => {
    await using room = scratch();
    const directory = join(room.path, 'volume');
    await createVolume(directory, { capacityBytes: 8 << 20, layout: 'preallocated' });
    execFileSync('fallocate', [
      '-p',
      '-o',
      String(2 << 20),
      '-l',
      String(1 << 20),
      join(directory, 'root.hds'),
    ]);
    assert.equal(ploopTool('check', '-f', join(directory, 'root.hds')).status, 11);
    const found = await checkVolume(directory, { repair: false });
    assert.deepEqual(
      found.map(({ problem }) => problem),
      ['holes'],
    );
    await checkVolume(directory, { repair: true });
    assert.deepEqual(await checkVolume(directory, { repair: false }), []);
    assert.equal(ploopTool('check', '-f', join(directory, 'root.hds')).status, 0);
  });
});
