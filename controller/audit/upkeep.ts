import { readFile, stat } from 'node:fs/promises';
import type { Logger } from 'pino';
import type { AuditVerdict, AuditWitnesses } from '../../shared/protocol/api.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { Store } from '../store/store.ts';
import { type ArchiveOptions, archives } from './archives.ts';
import type { Duty, DutyState } from './duty.ts';
import type { Destination } from './forward/destination.ts';
import { forwarder } from './forward/forwarder.ts';
import { type NoteKey, noteKey, notesIn } from './stowage-verify.ts';
import type { AuditTrail, Evidence } from './trail.ts';
import { feeder } from './witness/feeder.ts';
import { fileWitness } from './witness/file-witness.ts';
import { httpWitness } from './witness/http-witness.ts';
import { WitnessedLog } from './witness/log.ts';

export interface UpkeepOptions {
  /** Where the trail goes as it is made. */
  destinations: readonly Destination[];
  /** Who sees it grow. */
  witnesses: readonly { url: string; key: NoteKey }[];
  /** A file that sees it grow. */
  checkpoints?: string;
  /** How witnesses know it: a URL without a scheme. */
  origin: string;
  /** Where old records go; without it they stay. */
  archives?: ArchiveOptions;
}

interface Parts {
  store: Store;
  trail: AuditTrail;
  logger: Logger;
}

/** A pipe or a device may have no end. */
async function readRegular(path: string): Promise<string> {
  if (!(await stat(path)).isFile()) throw new Error(`${path} is no file`);
  return readFile(path, 'utf8');
}

/** What is done with the trail all the time: it is forwarded, witnessed and archived. */
export class TrailUpkeep {
  readonly #parts: Parts;
  readonly #options: UpkeepOptions;
  readonly #log: WitnessedLog;
  readonly #forwarders: readonly Duty[];
  readonly #feeders: readonly Duty[];
  readonly #archives: readonly Duty[];
  /** Of the verification that is under way, or was last. */
  #verdict: Promise<AuditVerdict | undefined> = Promise.resolve(undefined);
  /** Of the one after it, where somebody waits for that. */
  #nextVerdict: Promise<AuditVerdict> | undefined;

  constructor(parts: Parts, options: UpkeepOptions) {
    const { destinations, witnesses, checkpoints, origin } = options;
    this.#parts = parts;
    this.#options = options;
    this.#log = new WitnessedLog(origin, parts.trail);
    const all = witnesses.map(({ url, key }) => httpWitness(url, key));
    if (checkpoints !== undefined) all.push(fileWitness(checkpoints));
    this.#forwarders = destinations.map((destination) => forwarder(parts, destination));
    this.#feeders = all.map((witness) => feeder({ ...parts, log: this.#log }, witness));
    const arrived = () => this.#arrived();
    this.#archives = options.archives ? [archives({ ...parts, arrived }, options.archives)] : [];
  }

  get #duties(): readonly Duty[] {
    return [...this.#forwarders, ...this.#feeders, ...this.#archives];
  }

  get states(): DutyState[] {
    return this.#duties.map(({ state }) => state);
  }

  start(): void {
    for (const duty of this.#duties) duty.start();
  }

  async close(): Promise<void> {
    await Promise.all(this.#duties.map((duty) => duty.close()));
  }

  /** As {@link AuditTrail.verify}, against all that witnesses have signed. One at a time: whoever asks meanwhile shares the next one. */
  verify(): Promise<AuditVerdict> {
    this.#nextVerdict ??= this.#verdict
      .catch(() => undefined)
      .then(() => {
        this.#nextVerdict = undefined;
        const verdict = this.#verifyOnce();
        this.#verdict = verdict;
        return verdict;
      });
    return this.#nextVerdict;
  }

  async #verifyOnce(): Promise<AuditVerdict> {
    const { origin, checkpoints, ...options } = this.#options;
    const witnesses = options.witnesses.map(({ key }) => key);
    const verdict = await this.#parts.trail.verify({
      seen: { origin, witnesses },
      file: checkpoints === undefined ? undefined : await this.#kept(checkpoints),
    });
    return verdict.ok ? this.#missed(verdict, witnesses) : verdict;
  }

  /** Bad, at no record of its own, where a witness disputes the trail, or had seen it and what it has signed is gone. */
  async #missed(verdict: AuditVerdict, witnesses: readonly NoteKey[]): Promise<AuditVerdict> {
    for (const { state } of this.#feeders) {
      const { place, standstill } = state;
      if (standstill?.isDisputed) return { ...verdict, ok: false, reason: `${place}: ${standstill.reason}` };
    }
    for (const { name } of witnesses) {
      const record = await this.#parts.store.witnesses.find(name);
      const isThere = verdict.witnessed.some((seen) => seen.name === name);
      // What it has signed of records that are in archives is in those archives.
      if (!record || isThere || record.seq < verdict.first) continue;
      return { ...verdict, ok: false, reason: `what ${name} has signed up to record ${record.seq} is gone` };
    }
    return verdict;
  }

  /** The checkpoints of the file. Throws `io-error` where it cannot be read: as long as nothing was written, there is none. */
  async #kept(path: string): Promise<NonNullable<Evidence['file']>> {
    const text = await readRegular(path).catch(async (error: NodeJS.ErrnoException) => {
      const isNew = (await this.#parts.store.witnesses.find(path)) === undefined;
      if (error.code === 'ENOENT' && isNew) return '';
      throw new StowageError('io-error', `the checkpoints cannot be read: ${error.message}`);
    });
    return { key: noteKey(this.#log.key), notes: notesIn(text) };
  }

  /** Who sees the trail grow, and up to where. */
  async witnesses(): Promise<AuditWitnesses> {
    const { origin, key } = this.#log;
    const found = this.#feeders.map(async ({ state }) => {
      const record = await this.#parts.store.witnesses.find(state.place);
      const { place: name, standstill } = state;
      return { name, seq: record?.seq ?? 0, at: record?.at, reason: standstill?.reason };
    });
    return { origin, key, witnesses: await Promise.all(found) };
  }

  async #arrived(): Promise<number> {
    const { forwarding, witnesses } = this.#parts.store;
    const forwarded = this.#forwarders.map(({ state }) => forwarding.position(state.place));
    const seen = this.#feeders.map(async ({ state }) => (await witnesses.find(state.place))?.seq ?? 0);
    return Math.min(...(await Promise.all([...forwarded, ...seen])));
  }
}
