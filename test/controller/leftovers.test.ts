import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { Attention } from '../../controller/attention/items.ts';
import { EventLog } from '../../controller/events/event-log.ts';
import type { Fleet } from '../../controller/hosts/fleet.ts';
import { LeftoverWatch } from '../../controller/inventory/leftover-watch.ts';
import type { Store } from '../../controller/store/store.ts';
import type { Orphan } from '../../shared/conf/orphan.ts';
import { clock, useClock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { STORES } from '../support/stores.ts';

const HOUR = 3600_000;
const DAY = 24 * HOUR;
const START = Date.UTC(2026, 0, 5, 12);
const real = clock;

const pool = (name: string, more: object = {}) =>
  ({
    ...{ name, type: 'dir', uuid: '00000000-0000-4000-8000-000000000001', state: 'running', autostart: true },
    ...{ source: { hosts: [], devices: [] }, target: { path: '/p' } },
    ...{ capacityBytes: 100, allocationBytes: 90, availableBytes: 10 },
    ...more,
  }) as never;

const orphan = (more: Partial<Orphan> = {}): Orphan => ({
  ...{ path: '/p/x', what: 'a directory', users: [], allocationBytes: 4 << 20, modifiedAt: START - 2 * DAY },
  ...more,
});

for (const kind of STORES)
  describe(`leftovers of pools on ${kind.name}`, () => {
    afterEach(() => useClock(real));

    /** A watch whose host answers what is set; nothing runs by a timer. */
    async function watched() {
      const state = { now: START, answer: [] as Orphan[] | Error, asked: [] as string[] };
      useClock({
        ...real,
        now: () => state.now,
        every: () => ({ stop() {}, [Symbol.dispose]() {} }),
      });
      const store = await (await kind.create()).open();
      await store.transaction(async ({ hosts, pools }) => {
        await hosts.insert({
          ...{ id: 'id-h', name: 'h', address: { kind: 'websocket' }, agentId: 'agent-h', labels: [] },
          ...{ state: 'reachable', since: START, createdAt: 1 },
        });
        await pools.put('id-h', pool('p'));
      });
      const client = {
        async json(_schema: unknown, path: string) {
          state.asked.push(path);
          if (state.answer instanceof Error) throw state.answer;
          return state.answer;
        },
      };
      const fleet = { client: async () => client } as unknown as Fleet;
      const watch = new LeftoverWatch({ store, events: new EventLog(store), fleet });
      return { state, store, watch };
    }
    const items = async (store: Store): Promise<string[]> =>
      (await new Attention(store).items([])).map(({ kind: what, summary, reason, since }) =>
        [what, summary, reason, since - START].join('; '),
      );

    test('what lies there for a day and takes room, or was left by an agent, wants attention', async () => {
      const { state, store, watch } = await watched();
      state.answer = [
        orphan(),
        orphan({ allocationBytes: undefined, modifiedAt: undefined }),
        orphan({ allocationBytes: 10, agentId: 'agent-h' }),
        orphan({ allocationBytes: 10 }),
        orphan({ modifiedAt: START - HOUR }),
      ];
      await watch.lookAtSome();
      const told =
        'pool-leftovers; pool h/p has 3 leftovers; 4.00 MiB that belong to no volume: see `stowage pool orphans`; 0';
      assert.deepEqual(await items(store), [told]);
      await watch.lookAtSome();
      assert.equal(state.asked.length, 1, 'once a day');
      await store.transaction(({ pools }) => pools.put('id-h', pool('p', { allocationBytes: 50 })));
      assert.deepEqual(await items(store), [told], 'what its host tells of the pool changes nothing of that');

      state.now = START + DAY + 1;
      state.answer = [orphan()];
      await watch.lookAtSome();
      assert.match((await items(store))[0]!, /has a leftover; .*; 0$/, 'since it was seen first');
      state.now = START + 2 * DAY + 2;
      state.answer = [];
      const [before] = await new Attention(store).items([]);
      await watch.lookAtSome();
      assert.deepEqual(await items(store), []);
      assert.equal(await new Attention(store).end(before!), 'over');
    });

    test('a look that fails takes nothing for gone, and keeps nobody else from a turn', async () => {
      const { state, store, watch } = await watched();
      state.answer = [orphan()];
      await watch.lookAtSome();
      state.now = START + DAY + 1;
      state.answer = new StowageError('stream-cut', 'the link broke');
      await store.transaction(({ pools }) => pools.put('id-h', pool('q')));
      await watch.lookAtSome();
      await watch.lookAtSome();
      const asked = (name: string) =>
        state.asked.filter((path) => path === `/v1/pools/${name}/orphans`).length;
      assert.deepEqual([asked('p'), asked('q')], [2, 1]);
      assert.equal((await items(store)).length, 1);
      const [item] = await new Attention(store).items([]);
      assert.equal(await new Attention(store).end(item!), 'unknown');
      state.now += HOUR + 1;
      state.answer = [];
      await watch.lookAtSome();
      assert.deepEqual(await items(store), [], 'it is looked again an hour later');
    });

    test('many pools are looked into a part at a time, those that wait longest first; one storage is told once', async () => {
      const { state, store, watch } = await watched();
      const storageId = 'a'.repeat(32);
      await store.transaction(async ({ pools }) => {
        for (let index = 0; index < 49; index++)
          await pools.put('id-h', pool(`q${index}`, index < 2 ? { storageId } : {}));
        await pools.put('id-h', pool('stopped', { state: 'inactive', autostart: false }));
      });
      state.answer = [orphan()];
      for (const count of [20, 40, 50, 50]) {
        await watch.lookAtSome();
        assert.equal(new Set(state.asked).size, count);
      }
      assert.equal(state.asked.length, 50);
      assert.equal((await items(store)).length, 49);
      await store.transaction(({ hosts }) => hosts.setState('id-h', 'unreachable', 'cut', START));
      assert.deepEqual(await items(store).then((all) => all.filter((each) => each.startsWith('pool'))), []);
      state.now = START + 3 * DAY;
      await watch.lookAtSome();
      assert.equal(state.asked.length, 50, 'nothing is asked of a host that does not answer');
    });
  });
