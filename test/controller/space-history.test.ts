import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { SpaceHistory } from '../../controller/inventory/space-history.ts';
import type { Store } from '../../controller/store/store.ts';
import { clock, useClock } from '../../shared/util/clock.ts';
import { STORES } from '../support/stores.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const START = 20_000 * DAY;
const GIB = 2 ** 30;
const real = clock;

let now = START;
const setTime = (at: number): void => {
  now = at;
  useClock({ ...real, now: () => now });
};

async function setUse(store: Store, allocationBytes: number, state = 'running'): Promise<void> {
  await store.transaction(async (transaction) => {
    if (!(await transaction.hosts.byName('h')))
      await transaction.hosts.insert({
        ...{ id: 'id-h', name: 'h', address: { kind: 'websocket' } },
        ...{ state: 'reachable', since: 1, createdAt: 1, labels: [] },
      });
    await transaction.pools.put('id-h', {
      ...{ name: 'p', type: 'dir', uuid: '00000000-0000-4000-8000-000000000001', state, autostart: true },
      ...{ source: { hosts: [], devices: [] }, target: { path: '/p' } },
      ...{ capacityBytes: 100 * GIB, allocationBytes, availableBytes: 100 * GIB - allocationBytes },
    } as never);
  });
}

for (const kind of STORES)
  describe(`the history of space on ${kind.name}`, () => {
    afterEach(() => useClock(real));

    test('has minutes for a day, hours for a month and days for years, and what stays as it is costs nothing', async () => {
      const store = await (await kind.create()).open();
      setTime(START);
      let history = new SpaceHistory(store);
      // A day in which it grows by 1 GiB an hour, with a peak in the fourth.
      for (let minute = 0; minute < 26 * 60; minute++) {
        setTime(START + minute * MINUTE);
        const peak = minute === 4 * 60 + 30 ? 50 * GIB : 0;
        await setUse(store, Math.floor(minute / 60) * GIB + peak);
        await history.note();
      }
      const minutes = await history.since(now - DAY, 'h/p');
      assert.ok(minutes.length < 60, `${minutes.length} points of a day in which it changed some 28 times`);
      assert.equal(minutes.at(-1)!.allocationBytes, 25 * GIB);
      assert.deepEqual(
        (await history.since(now - DAY)).map(({ allocationBytes }) => allocationBytes),
        minutes.map(({ allocationBytes }) => allocationBytes),
        'all pools together are this one',
      );
      const hours = await history.since(now - 2 * DAY, 'h/p');
      const fourth = hours.find(({ at }) => at === START + 4 * HOUR)!;
      assert.deepEqual(
        [fourth.allocationBytes, fourth.peakBytes],
        [4 * GIB, 54 * GIB],
        'a peak is not hidden, and does not last',
      );
      assert.equal(hours.at(-1)!.allocationBytes, 25 * GIB, 'what is not rolled up yet is told, too');

      // Nothing changes for two months, in which the controller is started anew.
      for (let day = 2; day < 62; day++) {
        setTime(START + day * DAY + HOUR);
        if (day === 30) history = new SpaceHistory(store);
        await history.note();
      }
      for (const days of [1, 20, 59]) {
        const points = await history.since(now - days * DAY, 'h/p');
        assert.equal(points.at(-1)!.allocationBytes, 25 * GIB, `of ${days} days`);
        assert.ok(points.length <= 3, `${points.length} points of ${days} days in which nothing changed`);
      }
      const year = await history.since(now - 366 * DAY, 'h/p');
      assert.deepEqual(
        [year[0]!.allocationBytes, year[0]!.peakBytes],
        [23 * GIB, 54 * GIB],
        'the first day, with its peak',
      );
      await store.close();
    });

    test('does not lose what a step began with', async () => {
      const store = await (await kind.create()).open();
      setTime(START - 5 * HOUR);
      const history = new SpaceHistory(store);
      await setUse(store, 90 * GIB);
      await history.note();
      // It stays full over midnight, and is emptied a minute before the next.
      for (const [at, use] of [
        [START + DAY - MINUTE, GIB],
        [START + 3 * DAY, GIB],
      ] as const) {
        setTime(at);
        await setUse(store, use);
        await history.note();
      }
      setTime(START + 40 * DAY);
      const days = await history.since(START - DAY, 'h/p');
      const first = days.find(({ at }) => at === START);
      assert.deepEqual([first?.allocationBytes, first?.peakBytes], [GIB, 90 * GIB]);
      assert.equal(
        (await history.since(START + 39 * DAY, 'h/p'))[0]!.allocationBytes,
        GIB,
        'it is empty since',
      );
      await store.close();
    });

    test('tells nothing of a pool that is away', async () => {
      const store = await (await kind.create()).open();
      setTime(START);
      const history = new SpaceHistory(store);
      await setUse(store, GIB);
      await history.note();
      setTime(START + MINUTE);
      await setUse(store, 0, 'inaccessible');
      await history.note();
      assert.deepEqual(
        (await history.since(START, 'h/p')).map(({ allocationBytes }) => allocationBytes),
        [GIB],
      );
      await store.close();
    });
  });
