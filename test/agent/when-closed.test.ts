import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Device, whenClosed } from '../../agent/volumes/blocks/device-storage.ts';

/** A device that is open at the first so many looks, and the storage that it is on. */
function deviceOpenFor(looks: number, more: Partial<Device> = {}) {
  let looked = 0;
  const look = (): Device => ({
    ...{ name: 'v', uid: 'one', path: '/dev/v', sizeBytes: 1, allocationBytes: 1, dependants: [] },
    ...more,
    mark: String(looked),
    open: looked++ < looks,
  });
  return { first: look(), storage: { devices: async () => [look()] }, looked: () => looked };
}

test('a device that udev looks into for a moment is waited for, and is told as it is then', async () => {
  const { first, storage } = deviceOpenFor(3);
  const { open, mark } = await whenClosed(first, storage);
  assert.deepEqual([open, mark], [false, '3']);
});

test('one that nobody has open is not looked at again', async () => {
  const { first, storage, looked } = deviceOpenFor(0);
  assert.equal(await whenClosed(first, storage), first);
  assert.equal(looked(), 1);
});

test('one that a guest has open is told to be, after two seconds, however long each look takes', async () => {
  const { first, storage } = deviceOpenFor(Infinity);
  const began = performance.now();
  const slow = {
    async devices() {
      await new Promise((resolve) => setTimeout(resolve, 900));
      return storage.devices();
    },
  };
  assert.equal((await whenClosed(first, slow)).open, true);
  assert.ok(performance.now() - began < 10_000);
});

test('where another device has its name, or none, it is told as it was last', async () => {
  const { first } = deviceOpenFor(1);
  const other = deviceOpenFor(0, { uid: 'two' });
  assert.equal(await whenClosed(first, other.storage), first);
  assert.equal(await whenClosed(first, { devices: async () => [] }), first);
});
