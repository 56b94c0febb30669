import { randomBytes, randomUUID } from 'node:crypto';

/**
 * Everything that is not deterministic: time, timers, random numbers and ids. Agent and controller take them from here
 * only, so that a simulator can drive both with a seed.
 */
export interface Clock {
  /** Wall-clock time, ms since the epoch. */
  now(): number;
  /** Time that never goes back, ms since some moment. */
  monotonicMs(): number;
  /** A random UUID, version 4. */
  uuid(): string;
  /** Evenly distributed in [0, 1). Never for secrets. */
  random(): number;
  /** For secrets, keys and nonces. */
  randomBytes(count: number): Buffer;
  /** Calls back once. Does not keep the process alive when `keepAlive` is false. */
  after(ms: number, callback: () => void, keepAlive?: boolean): Timer;
  /** Calls back again and again. Does not keep the process alive when `keepAlive` is false. */
  every(ms: number, callback: () => void, keepAlive?: boolean): Timer;
}

export interface Timer extends Disposable {
  stop(): void;
}

function timer(stop: () => void): Timer {
  return { stop, [Symbol.dispose]: stop };
}

const system: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
  uuid: () => randomUUID(),
  random: () => Math.random(),
  randomBytes: (count) => randomBytes(count),
  after(ms, callback, keepAlive = true) {
    const handle = setTimeout(callback, ms);
    if (!keepAlive) handle.unref();
    return timer(() => clearTimeout(handle));
  },
  every(ms, callback, keepAlive = true) {
    const handle = setInterval(callback, ms);
    if (!keepAlive) handle.unref();
    return timer(() => clearInterval(handle));
  },
};

/** The clock of this process. */
export let clock: Clock = system;

/** Replaces the clock, as a simulator does before anything else runs. */
export function useClock(other: Clock): void {
  clock = other;
}

/** Works again and again, each `ms`, but not while it still works: what takes long is not overtaken. `work` never throws. */
export function repeat(ms: number, work: () => Promise<void>): Timer {
  let isWorking = false;
  return clock.every(ms, () => {
    if (isWorking) return;
    isWorking = true;
    void work().finally(() => {
      isWorking = false;
    });
  });
}

/** Settles after `ms`; rejects at once with the reason of the signal. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const abort = (): void => {
      waiting.stop();
      reject(signal?.reason);
    };
    const waiting = clock.after(ms, () => {
      signal?.removeEventListener('abort', abort);
      resolve();
    });
    signal?.addEventListener('abort', abort, { once: true });
  });
}
