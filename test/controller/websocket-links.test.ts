import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { AuditTrail } from '../../controller/audit/trail.ts';
import { WebSocketLinks } from '../../controller/hosts/websocket-links.ts';
import { openStore } from '../../controller/store/open.ts';
import { scratch } from '../support/scratch.ts';

test('who waits for an agent to dial in is let go when the host goes, before the wait or in it', async () => {
  await using room = scratch();
  const store = await openStore(join(room.path, 'stowage.db'));
  const links = new WebSocketLinks(store, new AuditTrail(store, room.path));
  await assert.rejects(links.next('host', AbortSignal.abort()), { code: 'cancelled' });
  const stop = new AbortController();
  const waiting = links.next('host', stop.signal);
  stop.abort();
  await assert.rejects(waiting, { code: 'cancelled' });
  await store.destroy();
});
