import type { Logger } from 'pino';
import { clock, type Timer } from '../../shared/util/clock.ts';
import type { Message } from '../store/repositories/attention.ts';
import type { Store } from '../store/store.ts';
import { type Channel, type Notices, reasonOf } from './channel.ts';

const LOOK_MS = 5_000;
/** Whoever takes longer to answer is tried again: a mail server may look into a message for minutes. */
const PATIENCE_MS = 5 * 60_000;
const FIRST_RETRY_MS = 10_000;
const LONGEST_RETRY_MS = 15 * 60_000;
/** What nobody took for so long is news no more. */
const GIVE_UP_MS = 24 * 3600_000;
const AT_ONCE = 20;

/**
 * Sends what is to be sent, in order, each channel by itself: one that does not answer keeps no other from its work, and gets what is
 * newer after what is older. Each message is tried for a day, with more and more time between. That it is tried is noted before, so a full
 * disk makes no flood. It arrives once; where the answer came too late, or could not be noted, again with the same id.
 */
export class Delivery {
  readonly #store: Store;
  readonly #logger: Logger;
  readonly #channels: readonly Channel[];
  readonly #busy = new Map<Channel, Promise<void>>();
  readonly #stop = new AbortController();
  #timer: Timer | undefined;

  constructor(store: Store, logger: Logger, channels: readonly Channel[]) {
    this.#store = store;
    this.#logger = logger;
    this.#channels = channels;
  }

  /** What got too old while nobody sent it is dropped. */
  async start(): Promise<void> {
    await this.#store.transaction(({ attention }) => attention.dropOlder(clock.now() - GIVE_UP_MS));
    this.#timer = clock.every(LOOK_MS, () => {
      for (const channel of this.#channels) {
        if (this.#busy.has(channel)) continue;
        const serving = this.#serve(channel).finally(() => this.#busy.delete(channel));
        this.#busy.set(channel, serving);
      }
    });
  }

  /** Settles when nothing is under way any more. */
  async close(): Promise<void> {
    this.#timer?.stop();
    this.#stop.abort(new Error('the controller ends'));
    await Promise.all(this.#busy.values());
  }

  async #serve(channel: Channel): Promise<void> {
    try {
      for (const message of await this.#store.attention.oldest(channel.name, AT_ONCE)) {
        // What waits longer than anything does was written while the clock was wrong.
        const waitMs = message.nextAt - clock.now();
        if (this.#stop.signal.aborted || (waitMs > 0 && waitMs <= LONGEST_RETRY_MS)) return;
        if (!(await this.#send(channel, message))) return;
      }
    } catch (error) {
      this.#logger.warn({ error, channel: channel.name }, 'messages cannot be read or noted as sent');
    }
  }

  /** False where it was not taken. */
  async #send(channel: Channel, { id, body, attempts, createdAt }: Message): Promise<boolean> {
    const notices = JSON.parse(body) as Notices;
    const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(PATIENCE_MS)]);
    const nextAt = clock.now() + Math.min(FIRST_RETRY_MS * 2 ** attempts, LONGEST_RETRY_MS);
    await this.#store.transaction(({ attention }) => attention.postpone(id, nextAt));
    const drop = () => this.#store.transaction(({ attention }) => attention.dropMessage(id));
    try {
      await channel.send(notices, signal);
    } catch (error) {
      if (this.#stop.signal.aborted) return false;
      const isOld = clock.now() - createdAt > GIVE_UP_MS;
      this.#logger.warn(
        { channel: channel.name, message: id, attempts: attempts + 1, reason: reasonOf(error) },
        isOld ? 'people cannot be told; given up' : 'people cannot be told; tried again later',
      );
      if (isOld) await drop();
      return false;
    }
    await drop();
    return true;
  }
}
