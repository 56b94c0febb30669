import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import type { z } from 'zod';
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
  ...{ path: '/p/x', what: 'a directory', users: [], agentId: 'agent-h' },
  ...{ allocationBytes: 4 << 20, modifiedAt: START - 2 * DAY },
  ...more,
});

for (const kind of STORES)
  describe(`leftovers of pools on ${kind.name}`, () => {
    afterEach(() => useClock(real));

    /** A watch whose host answers what is set; nothing runs by a timer. */
    async function watched() {
      const state = { now: START, answer: [] as unknown, asked: [] as string[], warned: 0 };
      useClock({
        ...real,
        now: () => state.now,
        every: () => ({ stop() {}, [Symbol.dispose]() {} }),
      });
      const store = await (await kind.create()).open();
      await store.transaction(async ({ hosts, pools }) => {
        for (const name of ['h', 'other'])
          await hosts.insert({
            ...{
              id: `id-${name}`,
              name,
              address: { kind: 'websocket' },
              agentId: `agent-${name}`,
              labels: [],
            },
            ...{ state: 'reachable', since: START, createdAt: 1 },
          });
        await pools.put('id-h', pool('p'));
      });
      const client = {
        async json(schema: z.ZodType, path: string) {
          state.asked.push(path.split('/')[3]!);
          if (state.answer instanceof Error) throw state.answer;
          return schema.parse(state.answer);
        },
      };
      const fleet = {
        client: async () => client,
        async namesOfAgents(ids: string[]) {
          const found = await store.hosts.namesOfAgents([...new Set(ids), 'nobody']);
          return new Map(found.map(({ agentId, name }) => [agentId, name]));
        },
      } as unknown as Fleet;
      const logger = { warn: () => void state.warned++ };
      const watch = new LeftoverWatch({ store, events: new EventLog(store), fleet, logger });
      return { state, store, watch };
    }
    const items = async (store: Store): Promise<string[]> =>
      (await new Attention(store).items([]))
        .filter(({ kind: what }) => what === 'pool-leftovers')
        .map(({ summary, reason, since }) => [summary, reason, (since - START) / HOUR].join('; '));

    test('what the agent of a host, or a forgotten one, has left is told when the next look finds it, too', async () => {
      const { state, store, watch } = await watched();
      state.answer = [
        orphan(),
        orphan({ allocationBytes: undefined, modifiedAt: undefined }),
        orphan({ agentId: 'agent-forgotten' }),
        orphan({ agentId: 'agent-other' }),
        orphan({ agentId: undefined }),
        orphan({ users: ['domain web'] }),
        orphan({ modifiedAt: START - HOUR }),
      ];
      await watch.visit('h');
      await watch.visit('h');
      assert.deepEqual(state.asked, ['p'], 'once a day');
      assert.equal((await store.pools.leftoversOf('h', 'p'))?.count, 3, 'what is others’ is not counted');
      state.now = START + 25 * HOUR;
      assert.deepEqual(await items(store), [], 'it may have been work under way');
      state.answer = [orphan(), orphan({ allocationBytes: undefined })];
      await watch.visit('h');
      await store.transaction(({ pools }) => pools.put('id-h', pool('p', { allocationBytes: 50 })));
      state.now += HOUR;
      assert.deepEqual(await items(store), [
        'pool h/p has 2 leftovers of agents; 4.00 MiB: see `stowage pool orphans h/p`; 0',
      ]);
      const [before] = await new Attention(store).items([]);
      assert.equal(await new Attention(store).end(before!), 'unknown');
      // Somebody has looked, after they were removed.
      await watch.note('h', 'p', []);
      assert.deepEqual(await items(store), []);
      assert.equal(await new Attention(store).end(before!), 'over');
    });

    test('a look that fails takes nothing for gone, is told once, and ends the visit', async () => {
      const { state, store, watch } = await watched();
      state.answer = [orphan()];
      await watch.visit('h');
      state.now = START + 25 * HOUR;
      assert.deepEqual(await items(store), [], 'one look alone tells nothing');
      await watch.visit('h');
      assert.equal((await items(store)).length, 1);
      await store.transaction(({ pools }) => pools.put('id-h', pool('q')));
      for (const [hours, answer] of [
        [50, new StowageError('stream-cut', 'the link broke')],
        [51.1, [orphan({ allocationBytes: 1e308 }), orphan({ allocationBytes: 1e308 })]],
        [52.2, [orphan({ allocationBytes: -1 })]],
        [53.3, 'nonsense'],
      ] as const) {
        state.now = START + hours * HOUR;
        state.answer = answer;
        state.asked = [];
        await watch.visit('h');
        assert.equal(state.asked.length, 1, 'nothing more is asked of a host that fails');
        assert.equal((await items(store)).length, 1);
      }
      assert.equal(state.warned, 2, 'one for each pool');
      state.now += 2 * HOUR;
      state.answer = [];
      await watch.visit('h');
      assert.deepEqual(await items(store), []);
    });

    test('of very many pools a part is looked into in a visit, those that wait longest first', async () => {
      const { state, store, watch } = await watched();
      await store.transaction(async ({ pools }) => {
        for (let index = 0; index < 409; index++) await pools.put('id-h', pool(`q${index}`));
        await pools.put('id-h', pool('stopped', { state: 'inactive' }));
      });
      state.answer = [orphan({ allocationBytes: Number.MAX_SAFE_INTEGER }), orphan()];
      for (const count of [200, 400, 410, 410]) {
        await watch.visit('h');
        assert.equal(new Set(state.asked).size, count);
      }
      assert.equal(state.asked.length, 410);
      state.now = START + 30 * HOUR;
      for (let visit = 0; visit < 3; visit++) await watch.visit('h');
      assert.equal((await items(store)).length, 410);
      for (const change of [{ state: 'inactive' }, { uuid: '00000000-0000-4000-8000-000000000002' }]) {
        await store.transaction(({ pools }) => pools.put('id-h', pool('q7', change)));
        assert.equal((await items(store)).length, 409, 'it is stopped, or another one');
      }
      await store.transaction(({ hosts }) => hosts.setState('id-h', 'unreachable', 'cut', START));
      assert.deepEqual(await items(store), []);
    });
  });
