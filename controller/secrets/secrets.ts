import { join } from 'node:path';
import type { Auth } from '../../shared/conf/pool-source.ts';
import type { Secret, SecretKind } from '../../shared/protocol/api.ts';
import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { HostLabels } from '../auth/host-labels.ts';
import { CONTROLLER, mayTouch } from '../auth/principal.ts';
import type { SealedSecret } from '../store/repositories/secrets.ts';
import type { Store } from '../store/store.ts';
import { Sealing } from './sealing.ts';

/** Which kind of secret a login of a pool means. */
const KINDS: Record<NonNullable<Auth['type']>, SecretKind> = { chap: 'iscsi', ceph: 'ceph' };

const shown = ({ sealed: _, ...secret }: SealedSecret): Secret => secret;

/** What a value is sealed with: who may have it cannot be changed without the key. */
const labelOf = ({ id, kind, usage, scopes }: Secret): string => JSON.stringify([id, kind, usage, scopes]);

/** Passwords and keys of storage. A value comes in, and goes to the hosts that may have it; nobody is shown it. */
export class Secrets {
  readonly #store: Store;
  readonly #labels: HostLabels;
  readonly #sealing: Sealing;

  constructor(store: Store, labels: HostLabels, dataDirectory: string) {
    this.#store = store;
    this.#labels = labels;
    this.#sealing = new Sealing(join(dataDirectory, 'secrets-key'));
  }

  async list(): Promise<Secret[]> {
    return (await this.#store.secrets.all()).map(shown);
  }

  /** A new one, or a new value, description and scopes for the one of the same kind and usage, which keeps its id. */
  async define(
    { kind, usage, description, scopes, id }: Omit<Secret, 'id' | 'changedAt'> & { id?: string },
    value: string,
  ): Promise<Secret> {
    return this.#store.transaction(async ({ secrets }) => {
      const before = await secrets.byUsage(kind, usage);
      const owner = id === undefined ? undefined : await secrets.byId(id);
      if (
        (before && id !== undefined && before.id !== id) ||
        (owner && (owner.usage !== usage || owner.kind !== kind))
      )
        throw new StowageError('invalid-argument', 'another secret has this id, or this usage');
      const own = before?.id ?? id ?? clock.uuid();
      const secret = { id: own, kind, usage, description, scopes, changedAt: clock.now() };
      await secrets.put({ ...secret, sealed: this.#sealing.seal(value, labelOf(secret)) });
      return secret;
    });
  }

  /** Throws `secret-not-found`. */
  async remove(id: string): Promise<void> {
    const removed = await this.#store.transaction(({ secrets }) => secrets.remove(id));
    if (!removed) throw new StowageError('secret-not-found', `there is no secret ${id}`);
  }

  /**
   * The value that a pool logs in with. Throws `secret-not-found`, and `forbidden` where the secret is not for that pool: an agent
   * names what it wants, and could name any.
   */
  async valueFor(
    { type, secret }: Auth,
    host: string,
    pool: string,
  ): Promise<{ value: string; usage: string; changedAt: number }> {
    const { secrets } = this.#store;
    const kind = type && KINDS[type];
    const found =
      'uuid' in secret
        ? await secrets.byId(secret.uuid.toLowerCase())
        : kind && (await secrets.byUsage(kind, secret.usage));
    const words = 'uuid' in secret ? secret.uuid : `${kind ?? ''} ${secret.usage}`.trim();
    if (!found || (kind !== undefined && found.kind !== kind))
      throw new StowageError('secret-not-found', `there is no secret ${words}; see: stowage secret define`);
    const { scopes, usage, sealed, changedAt } = found;
    if (!mayTouch({ ...CONTROLLER, scopes, labels: this.#labels }, { host, pool }, 'act'))
      throw new StowageError('forbidden', `the secret ${words} is not for pool ${host}/${pool}`);
    return { value: this.#sealing.open(sealed, labelOf(found)), usage: `${found.kind} ${usage}`, changedAt };
  }
}
