import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { hashPassword, isPassword } from '../../controller/auth/passwords.ts';
import { SlowDown } from '../../controller/auth/slow-down.ts';
import { clock, useClock } from '../../shared/util/clock.ts';
import { isStowageError } from '../../shared/util/errors.ts';

const real = clock;
let now = 0;

describe('slowing down', () => {
  afterEach(() => useClock(real));
  const setTime = (ms: number): void => {
    now = ms;
    useClock({ ...real, monotonicMs: () => now });
  };

  test('waits grow to the longest, and are not forgotten by waiting them out', () => {
    setTime(1);
    const slow = new SlowDown(2, 3600_000);
    slow.begin('k');
    slow.begin('k');
    assert.throws(() => slow.begin('k'), /try again in 1 seconds/);
    for (let waitMs = 1000; waitMs < 3600_000; waitMs *= 2) {
      setTime(now + waitMs);
      slow.begin('k');
      assert.throws(() => slow.begin('k'), /too many tries/);
    }
    // An hour is the longest; half an hour later nothing is forgotten.
    setTime(now + 1800_000);
    assert.throws(() => slow.begin('k'), /too many tries/);
    setTime(now + 1800_000);
    slow.begin('k');
    assert.throws(() => slow.begin('k'), /too many tries/);
    setTime(now + 24 * 3600_000);
    slow.begin('k');
    slow.begin('k');
  });

  test('a name that nobody has is refused as others are, also after too many at once', async () => {
    const hashed = await hashPassword('the password of somebody');
    const others = Array.from({ length: 120 }, () => isPassword('some password', hashed));
    const first = isPassword('some password', undefined);
    const ends = await Promise.allSettled([...others, first]);
    assert.ok(ends.some((end) => end.status === 'rejected' && isStowageError(end.reason, 'rate-limited')));
    assert.equal(await isPassword('some password', undefined), false);
  });
});
