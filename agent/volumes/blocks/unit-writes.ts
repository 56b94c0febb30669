import { join } from 'node:path';
import { z } from 'zod';
import { RecordLog } from '../../host/record-log.ts';

const schema = z.object({ torn: z.boolean(), count: z.number() });
type Writes = z.infer<typeof schema>;

/** What is known of what was written in place to devices, by their uids: how often, and whether the last time came to its end. */
export class UnitWrites implements AsyncDisposable {
  readonly #log: RecordLog<Writes>;

  private constructor(log: RecordLog<Writes>) {
    this.#log = log;
  }

  static async open(stateDirectory: string): Promise<UnitWrites> {
    return new UnitWrites(await RecordLog.open(join(stateDirectory, 'writes.log'), schema));
  }

  of(uid: string): Writes {
    return this.#log.get(uid) ?? { torn: false, count: 0 };
  }

  /** Durable when it settles. `torn` while what is in the device is neither the old nor the new. */
  async wrote(uid: string, torn: boolean): Promise<void> {
    await this.#log.set(uid, { torn, count: this.of(uid).count + 1 });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#log[Symbol.asyncDispose]();
  }
}
