import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import type { FoundVolume, Identity } from '../../agent/backends/backend.ts';
import { IndexOfVolumes } from '../../agent/pools/index-of-volumes.ts';

function records(entries: [string, Identity][]) {
  const map = new Map(entries);
  return {
    size: map.size,
    entries: () => map.entries(),
    get: (name: string) => map.get(name),
    set: async (name: string, identity: Identity) => void map.set(name, identity),
    delete: async (name: string) => void map.delete(name),
    [Symbol.asyncDispose]: async () => undefined,
  };
}

const found = (fingerprint: string, format: FoundVolume['format']): FoundVolume => ({
  name: 'v',
  path: '/v',
  type: 'file',
  format,
  capacityBytes: 1,
  allocationBytes: 1,
  snapshotCount: 0,
  fingerprint,
  mark: 'mark',
  stamp: 'stamp',
});

/** On record while one transfer replaces what another one brought. */
const replaced = (id: string, before: string, after: string): Identity => ({
  id,
  fingerprint: after,
  format: 'qcow2',
  transfer: 'second',
  formerly: { fingerprint: before, format: 'raw', transfer: 'first' },
});

test('a volume that was to be replaced when the agent was killed is what it was, or the new one, under one id', () => {
  const id = randomUUID();
  const record = replaced(id, 'old', 'new');
  {
    const index = new IndexOfVolumes(records([['v', record]]), () => randomUUID());
    // A guest may have written the header of another format into it.
    assert.equal(index.formatOf('v', 'old'), 'raw');
    assert.equal(index.put(found('old', 'raw')).news?.id, id);
    assert.deepEqual(index.identity('v'), { id, fingerprint: 'old', format: 'raw', transfer: 'first' });
    assert.equal(index.ofTransfer('second'), undefined);
  }
  {
    const index = new IndexOfVolumes(records([['v', record]]), () => randomUUID());
    assert.equal(index.put(found('new', 'qcow2')).news?.id, id);
    assert.equal(index.ofTransfer('second'), 'v');
  }
});

test('where files are known by their names alone, what replaced a volume is the new one', () => {
  const id = randomUUID();
  const record = replaced(id, 'name:v', 'name:v');
  const index = new IndexOfVolumes(records([['v', record]]), () => randomUUID());
  assert.equal(index.formatOf('v', 'name:v'), undefined);
  assert.equal(index.put(found('name:v', 'qcow2')).news?.format, 'qcow2');
  assert.equal(index.ofTransfer('second'), 'v');
});

test('what is put on record of an empty file waits until it holds something', () => {
  const index = new IndexOfVolumes(records([]), () => randomUUID());
  const empty = { ...found('one', 'raw'), capacityBytes: 0 };
  const { id } = index.put(empty).news!;
  assert.equal(index.known('v')?.format, undefined);
  assert.equal(index.put({ ...found('one', 'qcow2'), stamp: 'later' }).news?.format, 'qcow2');
  assert.deepEqual(index.identity('v'), { id, fingerprint: 'one', format: 'qcow2' });
});
