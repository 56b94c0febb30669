import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Clock, clock, sleep, useClock } from '../../shared/util/clock.ts';

test('whoever asks the clock is driven by another one once it is replaced', async () => {
  const system = clock;
  const waiting: { at: number; callback: () => void }[] = [];
  let now = 0;
  const simulated: Clock = {
    ...system,
    now: () => now,
    monotonicMs: () => now,
    after(ms, callback) {
      waiting.push({ at: now + ms, callback });
      const stop = (): void => undefined;
      return { stop, [Symbol.dispose]: stop };
    },
  };
  useClock(simulated);
  try {
    let woken = false;
    const slept = sleep(3600_000).then(() => {
      woken = true;
    });
    assert.equal(woken, false);
    now = waiting[0]!.at;
    waiting[0]!.callback();
    await slept;
    assert.equal(clock.now(), 3600_000);
  } finally {
    useClock(system);
  }
});
