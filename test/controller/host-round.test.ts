import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import type { Fleet } from '../../controller/hosts/fleet.ts';
import { HostRound } from '../../controller/hosts/host-round.ts';
import { clock, useClock } from '../../shared/util/clock.ts';

const real = clock;
afterEach(() => useClock(real));

test('every host is visited once in an hour, a part of them each minute, at most eight at a time', async () => {
  let tick = (): void => undefined;
  useClock({
    ...real,
    every(_ms, callback) {
      tick = callback;
      return { stop() {}, [Symbol.dispose]() {} };
    },
  });
  const names = Array.from({ length: 960 }, (_, index) => `h${String(index).padStart(4, '0')}`);
  const fleet = {
    totals: async () => ({ byState: { reachable: names.length } }),
    list: async ({ after, limit }: { after: string; limit: number }) =>
      names
        .filter((name) => name > after)
        .slice(0, limit)
        .map((name) => ({ name })),
  } as unknown as Fleet;
  const visited: string[] = [];
  const waiting: (() => void)[] = [];
  let isStuck = false;
  const round = new HostRound(fleet, async (host) => {
    visited.push(host);
    if (isStuck) await new Promise<void>((resolve) => waiting.push(resolve));
    else if (visited.length % 3 === 0) throw new Error('it is away');
  });
  for (let minute = 0; minute < 60; minute++) await round.goOn();
  assert.deepEqual(visited, names, 'whatever some of them do');
  visited.length = 0;
  isStuck = true;
  tick();
  tick();
  await new Promise(setImmediate);
  await new Promise(setImmediate);
  tick();
  await new Promise(setImmediate);
  assert.equal(visited.length, 8, 'a step that is not over is not overtaken');
  for (const end of waiting) end();
  round.close();
});
