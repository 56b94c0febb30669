import type { Pool } from '../../shared/conf/pool.ts';
import type { AuditTrail } from '../audit/trail.ts';
import type { Fleet } from '../hosts/fleet.ts';
import type { Secrets } from './secrets.ts';

/** Gives pools the secrets that they wait for: after a start of its host an agent has none. Each is on record. */
export class SecretGiver {
  readonly #secrets: Secrets;
  readonly #fleet: Fleet;
  readonly #audit: AuditTrail;
  /** Pools that are being given one, as `host/pool`. */
  readonly #busy = new Set<string>();
  /** Of what was refused, the reason: a pool that goes on asking is told, and put on record, once. */
  readonly #refused = new Map<string, string>();

  constructor(parts: { secrets: Secrets; fleet: Fleet; audit: AuditTrail }) {
    this.#secrets = parts.secrets;
    this.#fleet = parts.fleet;
    this.#audit = parts.audit;
  }

  /** What cannot be given now is asked for again when the pool tells of itself anew. */
  async give(host: string, { name, source }: Pool): Promise<void> {
    const target = `${host}/${name}`;
    if (!source.auth || this.#busy.has(target)) return;
    this.#busy.add(target);
    const record = { actor: 'controller', source: 'controller', action: 'secret.give', target };
    try {
      const { value, usage } = await this.#secrets.valueFor(source.auth, host, name);
      await this.#audit.append({ ...record, outcome: 'begun', detail: usage });
      const agent = await this.#fleet.client(host);
      const path = `/v1/pools/${encodeURIComponent(name)}/secret`;
      await agent.send(path, { method: 'POST', json: { secret: value } });
      await this.#audit.append({ ...record, outcome: 'done', detail: usage });
      this.#refused.delete(target);
    } catch (error) {
      const detail = error instanceof Error ? error.message : String(error);
      if (this.#refused.get(target) === detail) return;
      this.#refused.set(target, detail);
      await this.#audit.append({ ...record, outcome: 'refused', detail }).catch(() => undefined);
    } finally {
      this.#busy.delete(target);
    }
  }
}
