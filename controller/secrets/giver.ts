import type { Pool } from '../../shared/conf/pool.ts';
import { clock } from '../../shared/util/clock.ts';
import { toStowageError } from '../../shared/util/errors.ts';
import type { AuditTrail } from '../audit/trail.ts';
import type { Fleet } from '../hosts/fleet.ts';
import type { Secrets } from './secrets.ts';

/** A pool that asks again gets nothing before; honest agents ask every 30 s. */
const PAUSE_MS = 20_000;

/** Gives pools the secrets that they wait for: after a start of its host an agent has none. Each is on record. */
export class SecretGiver {
  readonly #secrets: Secrets;
  readonly #fleet: Fleet;
  readonly #audit: AuditTrail;
  /** What came of the last time, by `host/pool`. */
  readonly #last = new Map<string, { at: number; changedAt?: number; refusal?: string }>();

  constructor(parts: { secrets: Secrets; fleet: Fleet; audit: AuditTrail }) {
    this.#secrets = parts.secrets;
    this.#fleet = parts.fleet;
    this.#audit = parts.audit;
  }

  /** What cannot be given now is asked for again. Never throws. */
  async give(host: string, { name, source, awaitsSecret }: Pool): Promise<void> {
    const target = `${host}/${name}`;
    const before = this.#last.get(target);
    if (!source.auth || clock.now() < (before?.at ?? 0) + PAUSE_MS) return;
    this.#last.set(target, { ...before, at: clock.now() });
    const record = { actor: 'controller', source: 'controller', action: 'secret.give', target };
    try {
      const { value, usage, changedAt } = await this.#secrets.valueFor(source.auth, host, name);
      // What was refused once is refused again.
      if (awaitsSecret === 'refused' && before?.changedAt === changedAt) return;
      const agent = await this.#fleet.client(host);
      await this.#audit.append({ ...record, outcome: 'begun', detail: usage });
      const path = `/v1/pools/${encodeURIComponent(name)}/secret`;
      const failure = await agent.send(path, { method: 'POST', json: { secret: value }, patient: true }).then(
        () => undefined,
        (error) => toStowageError(error),
      );
      this.#last.set(target, { at: clock.now(), changedAt: failure ? before?.changedAt : changedAt });
      const detail = failure ? `${usage}: ${failure.message}` : usage;
      await this.#audit.append({ ...record, outcome: failure ? 'failed' : 'done', detail });
    } catch (error) {
      const { code, message } = toStowageError(error);
      // The host is away, or the trail cannot be written now.
      if (code !== 'forbidden' && code !== 'secret-not-found') return;
      if (before?.refusal === message) return;
      this.#last.set(target, { at: clock.now(), refusal: message });
      await this.#audit.append({ ...record, outcome: 'refused', detail: message }).catch(() => undefined);
    }
  }
}
