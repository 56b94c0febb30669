import { sleep } from '../../../shared/util/clock.ts';
import { StowageError } from '../../../shared/util/errors.ts';

/** Methods that can be made to fail. */
export const FAULTY = [
  'start',
  'stop',
  'space',
  'list',
  'look',
  'create',
  'remove',
  'rename',
  'base',
  'resize',
  'clone',
  'wipe',
  'open',
  'stage',
  'read',
  'write',
  'publish',
] as const;
export type Faulty = (typeof FAULTY)[number];

interface Fault {
  /** An error code of the system, `hang`, or a delay such as `50ms`. */
  what: string;
  /** How many times; without end when absent. */
  left: number | undefined;
}

/** Faults by the method that they are for. */
export class Faults {
  readonly #faults: Map<Faulty, Fault>;

  constructor(faults: Map<Faulty, Fault>) {
    this.#faults = faults;
  }

  /** Does what is asked for: throws, never settles, or settles later. */
  async at(method: Faulty): Promise<void> {
    const fault = this.#faults.get(method);
    if (!fault || fault.left === 0) return;
    if (fault.left !== undefined) fault.left--;
    if (fault.what === 'hang') return new Promise(() => undefined);
    const delay = /^(\d+)ms$/.exec(fault.what);
    if (delay) return sleep(Number(delay[1]));
    throw Object.assign(new Error(`${fault.what}: asked for, ${method}`), { code: fault.what });
  }
}

/**
 * Reads options such as `fault.create` = `ENOSPC`, `fault.look` = `hang`, `fault.write` = `EIO*1` (once), `fault.list` =
 * `500ms`, and `capacity` in bytes. Throws `invalid-argument` for others.
 */
export function parseFaults(options: readonly { name: string; value: string }[] = []): {
  faults: Faults;
  capacityBytes: number;
} {
  const faults = new Map<Faulty, Fault>();
  let capacityBytes = 100 * 2 ** 30;
  for (const { name, value } of options) {
    const method = FAULTY.find((known) => name === `fault.${known}`);
    const match = /^(E[A-Z0-9]+|hang|\d+ms)(?:\*(\d+))?$/.exec(value);
    if (name === 'capacity' && /^\d{1,15}$/.test(value)) capacityBytes = Number(value);
    else if (method && match)
      faults.set(method, { what: match[1]!, left: match[2] === undefined ? undefined : Number(match[2]) });
    else throw new StowageError('invalid-argument', `a pool of type 'test' has no option ${name} = ${value}`);
  }
  return { faults: new Faults(faults), capacityBytes };
}
