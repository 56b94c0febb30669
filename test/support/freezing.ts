import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { HostServices, PoolDriver } from '../../agent/backends/backend.ts';
import { OpenPool } from '../../agent/pools/open-pool.ts';

/** What an agent that has storage together with other hosts would give to a driver, with its state in a directory. */
function servicesOf(agentId: string, state: string, alone: HostServices['alone']): HostServices {
  mkdirSync(state);
  return {
    ...{ agentId, alone, ownsStorage: true },
    stateDirectory: async () => state,
    imageDirectories: () => [],
    secret: () => '',
  };
}

/** The agent of one host, which freezes once right before it changes the names of its storage. */
export class FreezingHost<Driver extends PoolDriver> {
  readonly pool: OpenPool;
  readonly driver: Driver;
  #freeze: { afterSteps: number; reached: () => void; woken: Promise<void> } | undefined;

  private constructor(driver: Driver) {
    this.driver = driver;
    this.pool = new OpenPool(driver);
  }

  /** Starts the agent of a name, with its state in a directory, and its pool. */
  static async start<Driver extends PoolDriver>(
    directory: string,
    agentId: string,
    open: (services: HostServices) => Driver,
  ): Promise<FreezingHost<Driver>> {
    const services = servicesOf(agentId, join(directory, agentId), async (work) => {
      await host.#reach();
      return work();
    });
    const host: FreezingHost<Driver> = new FreezingHost(open(services));
    await host.pool.start();
    return host;
  }

  async #reach(): Promise<void> {
    const freeze = this.#freeze;
    if (!freeze || freeze.afterSteps-- > 0) return;
    this.#freeze = undefined;
    freeze.reached();
    await freeze.woken;
  }

  /**
   * Begins `work` and lets it freeze, before its first change or after so many; meanwhile another host does `other`, which is called
   * also where it ends without that. Then it wakes. Gives what became of it, and whether it froze.
   */
  async freeze(
    work: () => Promise<unknown>,
    other: () => Promise<unknown>,
    afterSteps = 0,
  ): Promise<{ outcome: string; froze: boolean }> {
    const reached = Promise.withResolvers<void>();
    const woken = Promise.withResolvers<void>();
    this.#freeze = { afterSteps, reached: reached.resolve, woken: woken.promise };
    const result = work().then(
      () => 'done',
      ({ code, message }: { code?: string; message: string }) =>
        code === undefined || code === 'tool-failed' ? message : code,
    );
    await Promise.race([reached.promise, result]);
    const froze = this.#freeze === undefined;
    this.#freeze = undefined;
    try {
      await other();
    } finally {
      woken.resolve();
    }
    return { outcome: await result, froze };
  }

  /** As {@link freeze}, before the first change: gives what became of the work. */
  async frozenWhile(work: () => Promise<unknown>, other: () => Promise<unknown>): Promise<string> {
    return (await this.freeze(work, other)).outcome;
  }
}
