import type { Logger } from 'pino';
import { clock, type Timer } from '../../shared/util/clock.ts';
import type { Message } from '../store/repositories/attention.ts';
import type { Store } from '../store/store.ts';
import { type Channel, type Notices, reasonOf } from './channel.ts';

const LOOK_MS = 5_000;
/** Whoever takes longer to answer is tried again. */
const PATIENCE_MS = 30_000;
const FIRST_RETRY_MS = 10_000;
const LONGEST_RETRY_MS = 15 * 60_000;
/** What nobody took for so long is news no more. */
const GIVE_UP_MS = 24 * 3600_000;
const AT_ONCE = 20;

/**
 * Sends what is to be sent, oldest first, each channel by itself: one that does not answer keeps no other from its work. Tried again
 * for a day, with more and more time between; each message arrives once, or, where a kill came between its arrival and the note
 * of that, twice with the same id.
 */
export class Delivery {
  readonly #store: Store;
  readonly #logger: Logger;
  readonly #channels: readonly Channel[];
  readonly #busy = new Set<Channel>();
  readonly #stop = new AbortController();
  #timer: Timer | undefined;

  constructor(store: Store, logger: Logger, channels: readonly Channel[]) {
    this.#store = store;
    this.#logger = logger;
    this.#channels = channels;
  }

  /** Messages to channels that are configured no more are dropped. */
  async start(): Promise<void> {
    await this.#store.transaction(({ attention }) =>
      attention.dropOtherChannels(this.#channels.map(({ name }) => name)),
    );
    this.#timer = clock.every(LOOK_MS, () => {
      for (const channel of this.#channels) void this.#serve(channel);
    });
  }

  close(): void {
    this.#timer?.stop();
    this.#stop.abort(new Error('the controller ends'));
  }

  async #serve(channel: Channel): Promise<void> {
    if (this.#busy.has(channel)) return;
    this.#busy.add(channel);
    try {
      for (const message of await this.#store.attention.due(channel.name, clock.now(), AT_ONCE)) {
        if (this.#stop.signal.aborted) return;
        if (!(await this.#send(channel, message))) return;
      }
    } catch (error) {
      this.#logger.warn({ error, channel: channel.name }, 'messages cannot be read or noted as sent');
    } finally {
      this.#busy.delete(channel);
    }
  }

  /** False where it was not taken. */
  async #send(channel: Channel, { id, body, attempts, createdAt }: Message): Promise<boolean> {
    const notices = JSON.parse(body) as Notices;
    const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(PATIENCE_MS)]);
    try {
      await channel.send(notices, signal);
    } catch (error) {
      if (this.#stop.signal.aborted) return false;
      const isOld = clock.now() - createdAt > GIVE_UP_MS;
      this.#logger.warn(
        { channel: channel.name, message: id, attempts: attempts + 1, reason: reasonOf(error) },
        isOld ? 'people cannot be told; given up' : 'people cannot be told; tried again later',
      );
      const nextAt = clock.now() + Math.min(FIRST_RETRY_MS * 2 ** attempts, LONGEST_RETRY_MS);
      await this.#store.transaction(({ attention }) =>
        isOld ? attention.dropMessage(id) : attention.postpone(id, nextAt),
      );
      return false;
    }
    await this.#store.transaction(({ attention }) => attention.dropMessage(id));
    return true;
  }
}
