import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { describe, test } from 'node:test';
import { loadBackends } from '../../agent/backends/registry.ts';
import { createVolume } from '../../agent/formats/ploop/create.ts';
import { growVolume } from '../../agent/formats/ploop/grow.ts';
import { FLAG_EMPTY } from '../../agent/formats/ploop/header.ts';
import { openExpanded } from '../../agent/formats/ploop/image.ts';
import { qcow2 } from '../../agent/formats/qcow2/index.ts';
import { makeDirectory } from '../../agent/host/files.ts';
import { run } from '../../agent/host/run.ts';
import { FileImage } from '../../agent/images/file-image.ts';
import { Pools } from '../../agent/pools/pools.ts';
import { AgentState } from '../../agent/state.ts';
import { poolDefinitionSchema } from '../../shared/conf/pool.ts';
import { scratch } from '../support/scratch.ts';

const definition = (name: string, path: string, more = {}) =>
  poolDefinitionSchema.parse({ name, uuid: randomUUID(), type: 'dir', target: { path }, ...more });

async function poolsIn(directory: string): Promise<Pools> {
  return Pools.open(await AgentState.open(directory), await loadBackends(undefined));
}

describe('an agent starts with whatever works', () => {
  test('a torn definition and an unknown type are named, refused, and can be undefined', async () => {
    await using room = scratch();
    const state = join(room.path, 'state');
    mkdirSync(join(state, 'pools'), { recursive: true });
    mkdirSync(join(room.path, 'good'), { mode: 0o755 });
    const file = (name: string): string => join(state, 'pools', `${name}.json`);
    writeFileSync(file('torn'), '{"definition": {"name": "to');
    const stored = (name: string, more = {}) =>
      JSON.stringify({ definition: definition(name, join(room.path, name), more), active: true });
    writeFileSync(file('strange'), stored('strange', { type: 'sheepdog' }));
    writeFileSync(file('good'), stored('good'));
    const pools = await poolsIn(state);
    try {
      await pools.operations('good');
      const states = Object.fromEntries(
        pools.list().map(({ name, state: now, reason }) => [name, [now, reason]]),
      );
      assert.equal(states.good?.[0], 'running');
      assert.match(String(states.torn), /inaccessible,its definition, \S+torn.json, cannot be read/);
      assert.match(String(states.strange), /inaccessible,missing backend for pool type 'sheepdog'/);
      await assert.rejects(pools.operations('torn'), { code: 'pool-inaccessible' });
      await assert.rejects(pools.define(definition('torn', join(room.path, 'other'))), {
        code: 'pool-exists',
      });
      await pools.undefine('torn');
      await assert.rejects(pools.operations('torn'), { code: 'pool-not-found' });
    } finally {
      pools.close();
    }
  });

  test('plug-ins that are broken, of another contract, or there twice are left aside by name', async () => {
    await using room = scratch();
    const plugin = (name: string, text: string): void => writeFileSync(join(room.path, `${name}.mjs`), text);
    const backend = (type: string, contract: number): string =>
      `export const backend = { type: '${type}', contract: ${contract}, 
         traits: { volumes: 'file', formats: ['raw'], target: 'none', shared: false, mayHang: false, features: {} },
         check() {}, probe: async () => undefined, open() { throw new Error('not today'); } };`;
    plugin('a-broken', 'export const backend = {');
    plugin('b-empty', 'export const nothing = 1;');
    plugin('c-old', backend('old', 1));
    plugin('d-twice', backend('dir', 2));
    plugin('e-good', backend('mine', 2));
    plugin(
      'f-traitless',
      "export const backend = { type: 'f', contract: 2, check() {}, probe() {}, open() {} };",
    );
    const registry = await loadBackends(room.path);
    assert.equal(registry.get('mine').contract, 2);
    assert.deepEqual(
      registry.refused.map(({ file }) => file),
      ['a-broken.mjs', 'b-empty.mjs', 'c-old.mjs', 'd-twice.mjs', 'f-traitless.mjs'],
    );
    assert.match(registry.refused[2]!.reason, /for contract 1/);
    assert.equal((await loadBackends(join(room.path, 'nowhere'))).refused.length, 1);
  });

  test('fences that cannot be read let nobody in', async () => {
    await using room = scratch();
    mkdirSync(join(room.path, 'fences.log'));
    const state = await AgentState.open(room.path);
    await assert.rejects(state.fence('p/v', 7), { code: 'fence-stale' });
  });

  test('two who define pools over one directory at once: one is refused', async () => {
    await using room = scratch();
    const pools = await poolsIn(join(room.path, 'state'));
    try {
      const path = join(room.path, 'pool');
      const results = await Promise.allSettled(
        ['a', 'b', 'c'].map((name) =>
          pools.define(definition(name, join(path, name === 'a' ? '' : 'below'))),
        ),
      );
      assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 1);
    } finally {
      pools.close();
    }
  });

  test('a directory that cannot be made, such as below /proc, is refused at once', async () => {
    await assert.rejects(makeDirectory('/proc/stowage/pool'), /ENOENT|EACCES|EPERM/);
  });
});

describe('formats', () => {
  test('a snapshot is switched to by its name, also where the name is the id of another', async () => {
    await using room = scratch();
    const path = join(room.path, 'v.qcow2');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', path, '1M']);
    await using image = await FileImage.open(path, 'write');
    const write = (pattern: number): void =>
      void execFileSync('qemu-io', ['-f', 'qcow2', '-c', `write -q -P ${pattern} 0 64k`, path]);
    for (const name of ['1', '2', '3']) await qcow2.snapshots!.create(image, name);
    await qcow2.snapshots!.delete(image, '3');
    write(4);
    await qcow2.snapshots!.create(image, '4');
    write(7);
    await qcow2.snapshots!.create(image, '3');
    write(9);
    await qcow2.snapshots!.switch(image, '3');
    // Opened anew: others have made it longer.
    await using now = await FileImage.open(path, 'read');
    await using source = asDisposable(await qcow2.openContent(now, () => Promise.reject(new Error('alone'))));
    const first = Buffer.alloc(1);
    await source.read(first, 0);
    assert.equal(first[0], 7);
  });

  test('qcow2 content is read as qemu reads it: compressed, extended, zeros, chains', async () => {
    await using room = scratch();
    const at = (name: string): string => join(room.path, name);
    const content = Buffer.alloc(3 << 20);
    for (let index = 0; index < content.length; index += 4096) content.writeUInt32LE(index % 65521, index);
    content.fill(0, 1 << 20, 2 << 20);
    writeFileSync(at('raw'), content);
    const convert = (name: string, ...options: string[]): void =>
      void execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', ...options, at('raw'), at(name)]);
    convert('plain');
    convert('deflate', '-c');
    convert('zstd', '-c', '-o', 'compression_type=zstd');
    convert('extended', '-o', 'extended_l2=on,cluster_size=128k');
    convert('old', '-o', 'compat=0.10,cluster_size=4k');
    execFileSync('qemu-img', [
      'create',
      '-q',
      '-f',
      'qcow2',
      '-F',
      'qcow2',
      '-b',
      'deflate',
      at('over'),
      '4M',
    ]);
    execFileSync('qemu-io', ['-f', 'qcow2', '-c', 'write -q -P 5 100k 9k', at('over')]);
    for (const name of ['plain', 'deflate', 'zstd', 'extended', 'old', 'over']) {
      execFileSync('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', at(name), at('expected')]);
      await using expected = await FileImage.open(at('expected'), 'read');
      await using image = await FileImage.open(at(name), 'read');
      await using source = asDisposable(
        await qcow2.openContent(image, ({ path }) => FileImage.open(path, 'read')),
      );
      assert.equal(source.sizeBytes, expected.sizeBytes, name);
      const [ours, theirs] = [Buffer.alloc(source.sizeBytes), Buffer.alloc(source.sizeBytes)];
      await source.read(ours, 0);
      await expected.read(theirs, 0);
      assert.ok(ours.equals(theirs), name);
      const dense = Buffer.alloc(source.sizeBytes);
      for await (const { offset, length } of source.extents(0, source.sizeBytes))
        theirs.copy(dense, offset, offset, offset + length);
      assert.ok(dense.equals(theirs), `${name}: what lies between its extents is zeros`);
    }
  });

  test('an empty ploop image that was grown still says that it is empty, as the tool leaves it', async () => {
    await using room = scratch();
    for (const version of [1, 2] as const) {
      const directory = join(room.path, `v${version}`);
      await createVolume(directory, { capacityBytes: 8 << 20, version });
      await growVolume(directory, 64 << 20);
      await using delta = await openExpanded(join(directory, 'root.hds'), 'r');
      assert.equal(delta.header.flags & FLAG_EMPTY, FLAG_EMPTY);
    }
  });
});

describe('a tool that is run', () => {
  test('without progress is ended, with all that it started', async () => {
    const began = performance.now();
    await assert.rejects(run('sh', ['-c', 'sleep 100 & sleep 100'], { stallMs: 2000 }), {
      code: 'tool-stalled',
    });
    assert.ok(performance.now() - began < 20_000);
  });

  test('reads a stream to its end, and no longer than that comes', async () => {
    const read = async (input: Readable, command = 'cat >/dev/null'): Promise<unknown> =>
      run('sh', ['-c', command], { stdin: input, stallMs: 2000 }).catch(({ code }) => code);
    const endless = (): Readable => new Readable({ read: () => undefined });
    const done = (await read(Readable.from(['a', 'b']))) as { status: number };
    assert.equal(done.status, 0);
    const cut = endless();
    setImmediate(() => cut.destroy(new Error('gone')));
    assert.equal(await read(cut), 'stream-cut');
    // It has all that it wants, and the sender neither ends nor sends.
    assert.equal(await read(endless(), 'exec true'), 'stream-cut');
    const more = endless();
    setTimeout(() => void more.push('more'), 1000);
    assert.equal(await read(more, 'exec true'), 'stream-corrupt');
    const failed = (await read(endless(), 'exec false')) as { status: number };
    assert.equal(failed.status, 1, 'its own failure is told at once');
    assert.equal(await read(endless()), 'tool-stalled');
  });

  test('goes on as long as it gets on, and ends when it is cancelled', async () => {
    const { stdout } = await run('sh', ['-c', 'for i in 1 2 3 4; do sleep 1; echo $i; done'], {
      stallMs: 3000,
    });
    assert.equal(stdout, '1\n2\n3\n4\n');
    const stop = new AbortController();
    const running = run('sleep', ['100'], { signal: stop.signal });
    stop.abort(new Error('enough'));
    await assert.rejects(running, /enough/);
    await assert.rejects(run('no-such-tool-anywhere', []), { code: 'tool-missing' });
    await assert.rejects(
      run('no-such-tool-anywhere', [], { limits: { memoryBytes: 1 << 30, cpuSeconds: 1 } }),
      {
        code: 'tool-missing',
      },
    );
  });
});

function asDisposable<T extends { close(): Promise<void> }>(source: T): T & AsyncDisposable {
  return Object.assign(source, { [Symbol.asyncDispose]: () => source.close() });
}
