import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TellingTurns } from '../../controller/hosts/connection.ts';
import { Paced } from '../../controller/hosts/paced.ts';

const never = (): AbortSignal => new AbortController().signal;

test('work that thousands ask for at once lets everything else go on, and ends what it has begun first', async () => {
  const paced = new Paced(2);
  const order: number[] = [];
  let rounds = 0;
  let isOver = false;
  const count = (): void => {
    rounds++;
    if (!isOver) setImmediate(count);
  };
  setImmediate(count);
  const work = async (): Promise<void> => {
    for (const stage of [0, 1]) {
      await paced.turn(stage);
      order.push(stage);
      const end = performance.now() + 1;
      while (performance.now() < end);
    }
  };
  await Promise.all(Array.from({ length: 200 }, work));
  isOver = true;
  assert.equal(order.length, 400);
  // 400 ms of work in rounds of some 5 ms.
  assert.ok(rounds > 30, `${rounds} rounds`);
  // Never are more than a few begun that have not ended.
  let open = 0;
  for (const stage of order) {
    open += stage === 0 ? 1 : -1;
    assert.ok(open <= 8, `${open} were begun at a time`);
  }
});

test('64 hosts tell at a time; the next one has its turn when one has ended', async () => {
  const turns = new TellingTurns();
  const taken = await Promise.all(Array.from({ length: 64 }, () => turns.take(never(), false)));
  let hasTurn = false;
  const next = turns.take(never(), false).then((turn) => {
    hasTurn = true;
    return turn;
  });
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(hasTurn, false);
  taken[0]!.end();
  (await next).end();
  for (const turn of taken) turn.end();
});

test('who is let go does not wait for its turn', async () => {
  const turns = new TellingTurns();
  const taken = await Promise.all(Array.from({ length: 64 }, () => turns.take(never(), false)));
  const stop = new AbortController();
  const waiting = turns.take(stop.signal, false);
  stop.abort(new Error('the host is removed'));
  await assert.rejects(waiting, /the host is removed/);
  assert.throws(() => turns.take(stop.signal, false), /the host is removed/);
  for (const turn of taken) turn.end();
});

test('hosts that are silent in their turns keep no others waiting', async () => {
  const turns = new TellingTurns();
  const silent = await Promise.all(Array.from({ length: 64 }, () => turns.take(never(), false)));
  // All end by themselves; from then on these wait for each other.
  const honest = await turns.take(never(), false);
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.ok(silent.every(({ isUsedUp }) => isUsedUp));
  honest.end();
  void Array.from({ length: 64 }, () => turns.take(never(), true));
  const began = performance.now();
  (await turns.take(never(), false)).end();
  assert.ok(performance.now() - began < 1000);
});
