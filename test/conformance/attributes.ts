import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import type { Volume } from '../../shared/conf/volume.ts';
import type { It, Room } from './suite.ts';

const MIB = 1 << 20;

/** How the suite puts content into a new volume, and reads that of one. */
interface Hands {
  fill(room: Room, name: string, bytes: Buffer): Promise<Volume>;
  contentOf(room: Room, name: string): Promise<Buffer>;
  /** Begins a transfer over a volume, and leaves it. */
  replace(room: Room, name: string): Promise<unknown>;
}

/** What a volume has beside its content: its name, whether it is a base, what people keep with it. */
export function attributeTests(it: It, { fill, contentOf, replace }: Hands): void {
  it('a volume that is renamed is the same volume', { feature: 'rename' }, async (room) => {
    const bytes = randomBytes(MIB);
    const { id } = await fill(room, 'v', bytes);
    await room.pool.create({ name: 'taken', capacityBytes: MIB, format: 'raw', preallocate: false });
    await assert.rejects(room.pool.rename('v', 'taken'), { code: 'volume-exists' });
    await assert.rejects(room.pool.rename('absent', 'w'), { code: 'volume-not-found' });
    assert.equal((await room.pool.look('v')).id, id);
    const renamed = await room.pool.rename('v', 'w');
    assert.equal(renamed.id, id);
    assert.deepEqual([...room.seen.keys()].sort(), ['taken', 'w']);
    assert.ok((await contentOf(room, 'w')).subarray(0, MIB).equals(bytes));
    await assert.rejects(room.pool.look('v'), { code: 'volume-not-found' });
    if (room.inMemory) return;
    await using again = await room.reopen();
    assert.deepEqual([...again.seen.keys()].sort(), ['taken', 'w']);
    assert.equal(again.seen.get('w')?.id, id);
  });

  it('a base takes no change, and its linked clones begin with what it holds', {
    feature: 'base',
    also: 'link',
  }, async (room) => {
    const { pool } = room;
    const bytes = randomBytes(MIB);
    const { id } = await fill(room, 'v', bytes);
    await assert.rejects(pool.cloneLinked('v', 'w'), { code: 'invalid-argument' });
    for (const again of [1, 2]) assert.equal((await pool.setBase('v', true)).isBase, true, `time ${again}`);
    assert.equal(room.seen.get('v')?.id, id);
    await assert.rejects(pool.resize('v', 8 * MIB, false), { code: 'volume-is-base' });
    await assert.rejects(pool.wipe('v', 'zero'), { code: 'volume-is-base' });
    await assert.rejects(replace(room, 'v'), { code: 'volume-is-base' });
    const clone = await pool.cloneLinked('v', 'w');
    assert.notEqual(clone.id, id);
    assert.equal(clone.parentId, id);
    assert.ok(!clone.isBase);
    assert.ok((await contentOf(room, 'w')).subarray(0, MIB).equals(bytes));
    await assert.rejects(pool.cloneLinked('v', 'w'), { code: 'volume-exists' });
    for (const [of, name] of [
      ['v', 'full'],
      ['w', 'whole'],
    ] as const) {
      const copy = await pool.clone(of, name);
      assert.equal(copy.parentId, undefined);
      assert.ok(!copy.isBase);
      if (copy.type === 'file') assert.equal(copy.backingStore, undefined);
      assert.ok((await contentOf(room, name)).subarray(0, MIB).equals(bytes));
    }
    for (const away of [() => pool.remove('v'), () => pool.rename('v', 'x'), () => pool.setBase('v', false)])
      await assert.rejects(away, { code: 'volume-has-clones', message: /'v': w$/ });
  });

  it('a base stays one over a restart, and is a volume again without clones', {
    feature: 'base',
    also: 'link',
  }, async (first) => {
    const bytes = randomBytes(MIB);
    const { id } = await fill(first, 'v', bytes);
    await first.pool.setBase('v', true);
    await first.pool.cloneLinked('v', 'w');
    await using room = first.inMemory ? first : await first.reopen();
    const { pool } = room;
    assert.equal(room.seen.get('v')?.isBase, true);
    assert.equal(room.seen.get('w')?.parentId, id);
    // What comes in place of a clone is the clone's alone.
    const others = randomBytes(MIB);
    const replaced = await fill(room, 'w', others);
    assert.equal(replaced.parentId, undefined);
    assert.ok((await contentOf(room, 'w')).subarray(0, MIB).equals(others));
    assert.ok((await contentOf(room, 'v')).subarray(0, MIB).equals(bytes));
    await pool.remove('w');
    assert.ok(!(await pool.setBase('v', false)).isBase);
    await pool.wipe('v', 'zero');
    await pool.setBase('v', true);
    await pool.remove('v');
    assert.equal(room.seen.size, 0);
  });

  it('notes stay with a volume, and a protected one does not go', { feature: 'create' }, async (first) => {
    await first.pool.create({ name: 'v', capacityBytes: 4 * MIB, format: 'raw', preallocate: false });
    await first.pool.setAttributes('v', { notes: 'of the accounts\n', isProtected: true });
    await using room = first.inMemory ? first : await first.reopen();
    const { pool } = room;
    const { notes, isProtected, etag } = await pool.look('v');
    assert.deepEqual({ notes, isProtected }, { notes: 'of the accounts\n', isProtected: true });
    const refused = { code: 'volume-protected' };
    await assert.rejects(pool.remove('v', { deleteSnapshots: true }), refused);
    await assert.rejects(pool.wipe('v', 'zero'), refused);
    await assert.rejects(pool.trash('v', '0123456789ab', etag), refused);
    await assert.rejects(replace(room, 'v'), refused);
    await pool.resize('v', 8 * MIB, false);
    if (room.canShrink) await assert.rejects(pool.resize('v', 4 * MIB, true), refused);
    const free = await pool.setAttributes('v', { isProtected: false });
    assert.equal(free.notes, 'of the accounts\n');
    await pool.setAttributes('v', { notes: '' });
    assert.ok(!room.seen.get('v')?.notes);
    await pool.remove('v');
  });
}
