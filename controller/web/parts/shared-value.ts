import { useSyncExternalStore } from 'react';

/** A value outside of the components, that they show as it is now. */
export class SharedValue<T> {
  #now: T;
  readonly #listeners = new Set<() => void>();

  constructor(first: T) {
    this.#now = first;
  }

  get now(): T {
    return this.#now;
  }

  set(now: T): void {
    if (Object.is(now, this.#now)) return;
    this.#now = now;
    for (const listener of this.#listeners) listener();
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };
}

/** The value, in a component, which is drawn again when it changes. */
export const useShared = <T>(value: SharedValue<T>): T =>
  useSyncExternalStore(value.subscribe, () => value.now);
