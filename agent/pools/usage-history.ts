import { z } from 'zod';
import type { PoolForecast } from '../../shared/conf/pool-usage.ts';
import type { Space } from '../backends/backend.ts';
import { RecordLog } from '../host/record-log.ts';
import { forecast } from './forecast.ts';

const STEP_MS = 600_000;
const KEPT_MS = 7 * 24 * 3600_000;

const usedSchema = z.object({ data: z.number(), metadata: z.number().optional() });
type Used = z.output<typeof usedSchema>;

/**
 * How much of a pool was in use, every ten minutes of the last seven days that its agent ran, in a file. What stays as it is costs
 * two records, however long.
 */
export class UsageHistory implements AsyncDisposable {
  readonly #log: RecordLog<Used>;

  private constructor(log: RecordLog<Used>) {
    this.#log = log;
  }

  /** Throws as {@link RecordLog.open} does. */
  static async open(path: string): Promise<UsageHistory> {
    return new UsageHistory(await RecordLog.open(path, usedSchema));
  }

  #times(): number[] {
    return [...this.#log.entries()].map(([at]) => Number(at)).sort((one, other) => one - other);
  }

  /** Settles when it is durable. */
  async add(now: number, { allocationBytes, metadata }: Space): Promise<void> {
    const times = this.#times();
    const [before, last] = times.slice(-2);
    if (last !== undefined && last <= now && now - last < STEP_MS) return;
    const used = { data: allocationBytes, metadata: metadata?.allocationBytes };
    const isSame = (at: number | undefined): boolean => {
      const then = at === undefined ? undefined : this.#log.get(String(at));
      return then?.data === used.data && then.metadata === used.metadata;
    };
    const isFlat = times.length > 1 && isSame(last) && isSame(before);
    await this.#log.set(String(now), used);
    if (isFlat) await this.#log.delete(String(last));
    // The newest of those that are too old holds up to the oldest that is not. A clock that was set back begins anew.
    const old = times.filter((at) => at < now - KEPT_MS).slice(0, -1);
    for (const at of [...old, ...times.filter((time) => time > now)]) await this.#log.delete(String(at));
  }

  forecast({ allocationBytes, availableBytes, metadata }: Space): PoolForecast {
    const times = this.#times();
    const begin = (times.at(-1) ?? 0) - KEPT_MS;
    const used = times.map((at) => ({ ...this.#log.get(String(at))!, at: Math.max(at, begin) }));
    const dataUsed = used.map(({ at, data: bytes }) => ({ at, bytes }));
    const metadataUsed = used.flatMap(({ at, metadata: bytes }) =>
      bytes === undefined ? [] : [{ at, bytes }],
    );
    return {
      data: forecast(dataUsed, allocationBytes + availableBytes),
      metadata: metadata && forecast(metadataUsed, metadata.capacityBytes),
    };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#log[Symbol.asyncDispose]();
  }
}
