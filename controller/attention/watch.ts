import type { Logger } from 'pino';
import { clock, repeat, type Timer } from '../../shared/util/clock.ts';
import type { KnownItem } from '../store/repositories/attention.ts';
import type { Store } from '../store/store.ts';
import type { Channel, Notice, Notices } from './channel.ts';
import type { Attention } from './items.ts';
import { isQuiet, type QuietHours } from './quiet-hours.ts';

export interface WatchOptions {
  channels: readonly Channel[];
  /** So long something must last before anybody is told. */
  delayMs: number;
  quiet?: QuietHours;
  /** Where the controller's page is, if that is known. */
  url?: string;
}

const LOOK_MS = 15_000;
/** Of so many one message is made. */
const MOST_NOTICES = 100;

/**
 * Compares what wants attention with what did, and writes messages for each channel: one for what has begun and has lasted for
 * `delayMs`, one when it gets worse, one when it is over. What it has written is written once, whenever the controller is killed.
 */
export class AttentionWatch {
  readonly #parts: { store: Store; attention: Attention; logger: Logger };
  readonly #options: WatchOptions;
  #timer: Timer | undefined;

  constructor(parts: { store: Store; attention: Attention; logger: Logger }, options: WatchOptions) {
    this.#parts = parts;
    this.#options = options;
  }

  start(): void {
    const { logger } = this.#parts;
    this.#timer = repeat(LOOK_MS, () =>
      this.look().catch((error) => logger.warn({ error }, 'what wants attention cannot be read or noted')),
    );
  }

  close(): void {
    this.#timer?.stop();
  }

  /** Throws when something cannot be read or written; then nothing has changed. */
  async look(): Promise<void> {
    const { store, attention } = this.#parts;
    const now = await attention.items([]);
    const at = clock.now();
    const there = new Set(now.map(({ id }) => id));
    const known = await store.attention.all();
    const ends = new Map<string, 'over' | 'aged' | 'unknown'>();
    for (const { item } of known) if (!there.has(item.id)) ends.set(item.id, await attention.end(item));
    const knownById = new Map(known.map((each) => [each.item.id, each]));
    const notices: Notice[] = [];
    const changed: KnownItem[] = [];
    for (const item of now) {
      const before = knownById.get(item.id);
      const seenAt = before?.seenAt ?? at;
      const event = this.#eventOf({ item, seenAt, told: before?.told }, at);
      if (event) notices.push({ event, item });
      const told = event ? item.severity : before?.told;
      if (!before || event || before.item.severity !== item.severity) changed.push({ item, seenAt, told });
    }
    const ended = known.filter(({ item }) => (ends.get(item.id) ?? 'unknown') !== 'unknown');
    // The end of what was told may be told in quiet hours: it lets people sleep.
    for (const { item, told } of ended)
      if (told && ends.get(item.id) === 'over') notices.push({ event: 'over', item });
    if (changed.length === 0 && ended.length === 0) return;
    await store.transaction(async (transaction) => {
      for (const each of changed) await transaction.attention.put(each);
      for (const { item } of ended) await transaction.attention.drop(item.id);
      for (let from = 0; from < notices.length; from += MOST_NOTICES)
        for (const { name } of this.#options.channels) {
          const body: Notices = {
            ...{ id: clock.uuid(), at, url: this.#options.url },
            notices: notices.slice(from, from + MOST_NOTICES),
          };
          const message = { id: body.id, channel: name, body: JSON.stringify(body), number: from };
          await transaction.attention.addMessage({ ...message, createdAt: at, nextAt: at, attempts: 0 });
        }
    });
  }

  /** What is to be told of an item now, if anything is. */
  #eventOf({ item, seenAt, told }: KnownItem, at: number): Notice['event'] | undefined {
    const { delayMs, quiet } = this.#options;
    const isWorse = told === 'warning' && item.severity === 'critical';
    if (told && !isWorse) return undefined;
    if (at - seenAt < delayMs) return undefined;
    if (quiet && item.severity !== 'critical' && isQuiet(at, quiet)) return undefined;
    return isWorse ? 'worse' : 'began';
  }
}
