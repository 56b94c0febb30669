import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { pino } from 'pino';
import type { Channel, Notices } from '../../controller/attention/channel.ts';
import { Delivery } from '../../controller/attention/delivery.ts';
import { Attention, MOST_ITEMS } from '../../controller/attention/items.ts';
import { isQuiet } from '../../controller/attention/quiet-hours.ts';
import { AttentionWatch, type WatchOptions } from '../../controller/attention/watch.ts';
import type { Store } from '../../controller/store/store.ts';
import type { Host } from '../../shared/protocol/api.ts';
import { clock, useClock } from '../../shared/util/clock.ts';
import { until } from '../support/controller.ts';
import { STORES } from '../support/stores.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const START = Date.UTC(2026, 0, 5, 12);
const real = clock;
const logger = pino({ level: 'silent' });

let now = START;
const setTime = (at: number): void => {
  now = at;
  useClock({ ...real, now: () => now });
};

const setHost = (store: Store, name: string, state: Host['state']): Promise<void> =>
  store.transaction(async ({ hosts }) => {
    if (await hosts.byName(name)) await hosts.setState(`id-${name}`, state, 'cut', now);
    else
      await hosts.insert({
        ...{ id: `id-${name}`, name, address: { kind: 'websocket' as const }, agentId: `agent-${name}` },
        ...{ state, reason: 'cut', since: now, createdAt: 1, labels: [] },
      });
  });

const setPool = (store: Store, name: string, more: object): Promise<void> =>
  store.transaction(async ({ pools }) => {
    await pools.put('id-h', {
      ...{
        name,
        type: 'dir',
        uuid: '00000000-0000-4000-8000-000000000001',
        state: 'running',
        autostart: true,
      },
      ...{ source: { hosts: [], devices: [] }, target: { path: '/p' } },
      ...{ capacityBytes: 100, allocationBytes: 90, availableBytes: 10 },
      ...more,
    } as never);
  });

/** From now on time stands still, and what is done again and again is done when the answer is called. */
function useTicks(): () => void {
  let tick = (): void => undefined;
  useClock({
    ...real,
    now: () => now,
    every(_ms, callback) {
      tick = callback;
      return { stop() {}, [Symbol.dispose]() {} };
    },
  });
  return () => tick();
}

/** What a channel was given, as `event severity id`. */
class Heard implements Channel {
  readonly name = 'heard';
  readonly messages: Notices[] = [];
  failures = 0;

  async send(notices: Notices): Promise<void> {
    if (this.failures-- > 0) throw new Error('it does not answer');
    this.messages.push(notices);
  }

  take(): string[] {
    return this.messages
      .splice(0)
      .flatMap(({ notices }) => notices.map(({ event, item }) => `${event} ${item.severity} ${item.id}`));
  }
}

/** What is to be sent over the channel, without sending it. */
async function written(store: Store): Promise<string[]> {
  const heard = new Heard();
  for (const { id, body } of await store.attention.oldest('heard', 1000)) {
    await heard.send(JSON.parse(body) as Notices);
    await store.transaction(({ attention }) => attention.dropMessage(id));
  }
  return heard.take();
}

function watchOn(store: Store, options: Partial<WatchOptions> = {}): AttentionWatch {
  const all = { channels: [new Heard()], delayMs: 2 * MINUTE, ...options };
  return new AttentionWatch({ store, attention: new Attention(store), logger }, all);
}

for (const kind of STORES)
  describe(`what wants attention on ${kind.name}`, () => {
    afterEach(() => useClock(real));

    test('people are told once, when it has lasted, when it gets worse, and when it is over', async () => {
      setTime(START);
      const store = await (await kind.create()).open();
      await setHost(store, 'h', 'reachable');
      await setPool(store, 'p', {});
      await watchOn(store).look();
      assert.deepEqual(await written(store), []);
      await setPool(store, 'p', { fill: 'warning' });
      await watchOn(store).look();
      setTime(START + MINUTE);
      await watchOn(store).look();
      assert.deepEqual(await written(store), [], 'it may pass by itself');
      setTime(START + 2 * MINUTE);
      // Each look is that of a controller that was started anew.
      await watchOn(store).look();
      await watchOn(store).look();
      assert.deepEqual(await written(store), ['began warning pool-filling h/p']);
      await setPool(store, 'p', { fill: 'critical' });
      await watchOn(store).look();
      await watchOn(store).look();
      assert.deepEqual(await written(store), ['worse critical pool-filling h/p']);
      await setPool(store, 'p', { fill: 'warning' });
      await watchOn(store).look();
      assert.deepEqual(await written(store), [], 'it is not over');
      await setPool(store, 'p', { fill: 'normal' });
      await watchOn(store).look();
      await watchOn(store).look();
      assert.deepEqual(await written(store), ['over warning pool-filling h/p']);
    });

    test('what passes before anybody was told is not told of', async () => {
      setTime(START);
      const store = await (await kind.create()).open();
      await setHost(store, 'h', 'unreachable');
      await watchOn(store).look();
      await setHost(store, 'h', 'reachable');
      setTime(START + HOUR);
      await watchOn(store).look();
      await setHost(store, 'h', 'unreachable');
      await watchOn(store).look();
      assert.deepEqual(await written(store), [], 'it lasts anew');
    });

    test('of a host that does not answer, or is being reached again, nothing is over', async () => {
      setTime(START);
      const store = await (await kind.create()).open();
      const watch = watchOn(store, { delayMs: 0 });
      await setHost(store, 'h', 'reachable');
      await setPool(store, 'p', { fill: 'critical' });
      await watch.look();
      assert.deepEqual(await written(store), ['began critical pool-filling h/p']);
      await setHost(store, 'h', 'unreachable');
      await watch.look();
      assert.deepEqual(await written(store), ['began critical host-unreachable h']);
      await setHost(store, 'h', 'connecting');
      await watch.look();
      assert.deepEqual(await written(store), [], 'the controller was started anew');
      await setHost(store, 'h', 'reachable');
      await watch.look();
      assert.deepEqual(await written(store), ['over critical host-unreachable h']);
    });

    test('of more hosts than are listed none is over because it is not on the list', async () => {
      setTime(START);
      const store = await (await kind.create()).open();
      const names = Array.from(
        { length: MOST_ITEMS + 5 },
        (_, index) => `z${String(index).padStart(4, '0')}`,
      );
      for (const name of names) await setHost(store, name, 'unreachable');
      const watch = watchOn(store, { delayMs: 0 });
      await watch.look();
      const first = await store.attention.oldest('heard', 1000);
      assert.deepEqual(
        first.map(({ body }) => (JSON.parse(body) as Notices).notices.length),
        [100, 100, 100, 100, 100],
        'five messages, not five hundred',
      );
      await written(store);
      // It comes before the others, and pushes one off the list.
      await setHost(store, 'a', 'unreachable');
      await watch.look();
      assert.deepEqual(await written(store), ['began critical host-unreachable a']);
    });

    test('in quiet hours only what is critical is told, and what is over; the rest follows', async () => {
      const store = await (await kind.create()).open();
      const quiet = { from: '22:00', to: '07:00', zone: 'UTC' };
      const watch = watchOn(store, { delayMs: 0, quiet });
      setTime(START + 11 * HOUR);
      await setHost(store, 'h', 'reachable');
      await setPool(store, 'p', { fill: 'warning' });
      await setPool(store, 'q', { state: 'inaccessible', reason: 'gone' });
      await watch.look();
      assert.deepEqual(await written(store), ['began critical pool-down h/q']);
      await setPool(store, 'q', {});
      await watch.look();
      assert.deepEqual(await written(store), ['over critical pool-down h/q']);
      setTime(START + 19 * HOUR);
      await watch.look();
      assert.deepEqual(await written(store), ['began warning pool-filling h/p']);
    });

    test('a channel that does not answer keeps no other waiting, gets all later, and not for ever', async () => {
      setTime(START);
      const store = await (await kind.create()).open();
      const [heard, deaf] = [new Heard(), Object.assign(new Heard(), { name: 'deaf', failures: 2 })];
      const channels = [heard, deaf] as const;
      await setHost(store, 'h', 'unreachable');
      await watchOn(store, { delayMs: 0, channels }).look();
      setTime(START + 1);
      await setHost(store, 'i', 'unreachable');
      await watchOn(store, { delayMs: 0, channels }).look();
      const tick = useTicks();
      const delivery = new Delivery(store, logger, channels);
      await delivery.start();
      const ids = ['began critical host-unreachable h', 'began critical host-unreachable i'];
      await until('the one has both', () => {
        tick();
        return heard.messages.length === 2;
      });
      assert.deepEqual(heard.take(), ids);
      await until('the other failed', () => deaf.failures === 1);
      assert.deepEqual(deaf.take(), [], 'what is newer does not come before what is older');
      for (const minutes of [1, 2]) {
        now = START + minutes * MINUTE;
        await until('it was tried', async () => {
          tick();
          const [oldest] = await store.attention.oldest('deaf', 1);
          return !oldest || oldest.nextAt > now;
        });
      }
      await until('it has both', () => {
        tick();
        return deaf.messages.length === 2;
      });
      assert.deepEqual(deaf.take(), ids);
      deaf.failures = 1e6;
      await setHost(store, 'k', 'unreachable');
      await watchOn(store, { delayMs: 0, channels: [deaf] }).look();
      now += 25 * HOUR;
      await until('it is given up', async () => {
        tick();
        const rows = await store.db
          .selectFrom('messages')
          .selectAll()
          .where('channel', '=', 'deaf')
          .execute();
        return rows.length === 0;
      });
      await delivery.close();
    });

    test('where it cannot be noted that something is tried, nothing is sent again and again', async () => {
      setTime(START);
      const store = await (await kind.create()).open();
      const heard = new Heard();
      await setHost(store, 'h', 'unreachable');
      await watchOn(store, { delayMs: 0 }).look();
      const tick = useTicks();
      const delivery = new Delivery(store, logger, [heard]);
      await delivery.start();
      let tried = 0;
      store.transaction = async () => {
        tried++;
        throw new Error('no space left on device');
      };
      await until('it was tried', () => {
        tick();
        return tried > 3;
      });
      assert.deepEqual(heard.messages, []);
      await delivery.close();
    });

    test('what a pool that is away has had is not over, and what its host says is bounded', async () => {
      setTime(START);
      const store = await (await kind.create()).open();
      const watch = watchOn(store, { delayMs: 0 });
      await setHost(store, 'h', 'reachable');
      await setPool(store, 'p', { fill: 'critical' });
      await watch.look();
      await written(store);
      const long = 'a\nb '.repeat(100_000);
      await setPool(store, 'p', { state: 'inaccessible', reason: long, since: 9e15 });
      await watch.look();
      const [message] = await store.attention.oldest('heard', 10);
      assert.ok(message!.body.length < 1500 && !message!.body.includes('\\n'));
      assert.deepEqual(await written(store), ['began critical pool-down h/p']);
      await setPool(store, 'p', { state: 'running' });
      await watch.look();
      assert.deepEqual(
        await written(store),
        ['over critical pool-down h/p'],
        'how full it is nobody has told',
      );
      await setPool(store, 'p', { state: 'running', fill: 'normal' });
      await watch.look();
      assert.deepEqual(await written(store), ['over critical pool-filling h/p']);
    });

    test('a host that is being reached for long does not answer', async () => {
      setTime(START);
      const store = await (await kind.create()).open();
      await setHost(store, 'h', 'connecting');
      const attention = new Attention(store);
      assert.deepEqual(await attention.items([]), []);
      setTime(START + 3 * MINUTE);
      assert.deepEqual(
        (await attention.items([])).map(({ id, severity }) => [id, severity]),
        [['host-unreachable h', 'critical']],
      );
    });
  });

test('quiet hours may go over midnight, and are in their own zone', () => {
  const night = { from: '22:00', to: '07:00', zone: 'UTC' };
  const at = (hours: number, minutes = 0): number => Date.UTC(2026, 5, 1, hours, minutes);
  assert.deepEqual(
    [at(21, 59), at(22), at(0), at(6, 59), at(7)].map((time) => isQuiet(time, night)),
    [false, true, true, true, false],
  );
  const noon = { from: '12:00', to: '13:00', zone: 'Europe/Vienna' };
  assert.deepEqual(
    [at(10), at(11), at(12)].map((time) => isQuiet(time, noon)),
    [true, false, false],
  );
  assert.equal(isQuiet(at(5), { from: '05:00', to: '05:00', zone: 'UTC' }), false);
});
