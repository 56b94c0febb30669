import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { EventReaders } from '../../controller/doors/events/event-readers.ts';

describe('readers of events', () => {
  test('one token has 200 at a time, all together 1,000, and each makes room when it ends', () => {
    const readers = new EventReaders();
    const refused = (id: string) =>
      assert.throws(() => readers.enter({ id }), { code: 'rate-limited' }, `one more of ${id}`);
    const first = readers.enter({ id: 'a' });
    for (let count = 1; count < 200; count++) readers.enter({ id: 'a' });
    refused('a');
    first();
    first();
    readers.enter({ id: 'a' });
    refused('a');
    for (const id of ['b', 'c', 'd', 'e']) for (let count = 0; count < 200; count++) readers.enter({ id });
    refused('f');
  });
});
