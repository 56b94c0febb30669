import assert from 'node:assert/strict';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Logger, pino } from 'pino';
import type { Duty } from '../../controller/audit/duty.ts';
import { AuditTrail } from '../../controller/audit/trail.ts';
import { openStore, type Store } from '../../controller/store/store.ts';
import { scratch } from './scratch.ts';

const PATIENCE_MS = 30_000;

export const entry = (target: string) => ({
  actor: 'ada',
  source: '192.0.2.1',
  action: 'volume.create',
  target,
  outcome: 'done' as const,
});

/** What `look` finds, as soon as it finds anything. */
export async function until<T>(
  look: () => Promise<T | undefined | false> | T | undefined | false,
): Promise<T> {
  for (const end = Date.now() + PATIENCE_MS; ; ) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) assert.fail(`it does not come to that: ${look}`);
    await sleep(50);
  }
}

export interface TrailRoom {
  directory: string;
  store: Store;
  trail: AuditTrail;
  logger: Logger;
  /** Starts what is closed at the end. */
  run(duty: Duty): Duty;
  [Symbol.asyncDispose](): Promise<void>;
}

/** A store with a trail of `count` records. */
export async function withTrail(count: number): Promise<TrailRoom> {
  const room = scratch();
  const store = await openStore(join(room.path, 'store.db'));
  const trail = new AuditTrail(store, room.path);
  for (let number = 1; number <= count; number++) await trail.append(entry(`h/p/v${number}`));
  const duties: Duty[] = [];
  return {
    directory: room.path,
    store,
    trail,
    logger: pino({ level: 'silent' }),
    run(duty) {
      duties.push(duty);
      duty.start();
      return duty;
    },
    async [Symbol.asyncDispose]() {
      for (const duty of duties) await duty.close();
      await store.close();
      await room[Symbol.asyncDispose]();
    },
  };
}
