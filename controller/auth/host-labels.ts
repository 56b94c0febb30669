import type { Store } from '../store/store.ts';

/** Which hosts have which labels: asked for with every event, so it is kept in memory, and read again when it changes. */
export class HostLabels {
  readonly #store: Store;
  #hosts = new Map<string, Set<string>>();

  constructor(store: Store) {
    this.#store = store;
  }

  /** Reads all from the store: at the start, and now and then for what another controller has changed. */
  async load(): Promise<void> {
    const hosts = new Map<string, Set<string>>();
    for (const { host, label } of await this.#store.hosts.labels()) {
      const labelled = hosts.get(label) ?? new Set();
      hosts.set(label, labelled.add(host));
    }
    this.#hosts = hosts;
  }

  /** Notes the labels that a host has now. */
  set(host: string, labels: readonly string[]): void {
    for (const labelled of this.#hosts.values()) labelled.delete(host);
    for (const label of labels) this.#hosts.set(label, (this.#hosts.get(label) ?? new Set()).add(host));
  }

  has(host: string, label: string): boolean {
    return this.#hosts.get(label)?.has(host) ?? false;
  }
}
