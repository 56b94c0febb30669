import { join } from 'node:path';
import type { Auth } from '../../shared/conf/pool-source.ts';
import type { FleetVolume, Secret, SecretKind } from '../../shared/protocol/api.ts';
import { mayTouch } from '../../shared/protocol/rights.ts';
import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { HostLabels } from '../auth/host-labels.ts';
import { CONTROLLER } from '../auth/principal.ts';
import { SECRETS_KEY } from '../store/key-files.ts';
import type { SealedSecret } from '../store/repositories/secrets.ts';
import type { Store } from '../store/store.ts';
import { Sealing } from './sealing.ts';

/** Which kind of secret a login of a pool means. */
const KINDS: Record<NonNullable<Auth['type']>, SecretKind> = { chap: 'iscsi', ceph: 'ceph' };

const shown = ({ sealed: _, ...secret }: SealedSecret): Secret => secret;

/** What a value is sealed with: who may have it cannot be changed without the key. */
/** Of what a sealed secret is. */
export const secretLabel = ({ id, kind, usage, scopes }: Secret): string =>
  JSON.stringify([id, kind, usage, scopes]);

type NewSecret = Omit<Secret, 'id' | 'changedAt'> & { id?: string; replace?: boolean };

interface Place {
  host: string;
  pool: string;
}

interface Value {
  value: string;
  usage: string;
  changedAt: number;
}

/** What tells which secret opens a volume. */
type EncryptedVolume = Pick<FleetVolume, 'host' | 'pool' | 'path' | 'encryption'>;

/** Passwords and keys of storage. A value comes in, and goes to the hosts that may have it; nobody is shown it. */
export class Secrets {
  readonly #store: Store;
  readonly #labels: HostLabels;
  readonly #sealing: Sealing;

  constructor(store: Store, labels: HostLabels, dataDirectory: string) {
    this.#store = store;
    this.#labels = labels;
    this.#sealing = new Sealing(join(dataDirectory, SECRETS_KEY));
  }

  async list(): Promise<Secret[]> {
    return (await this.#store.secrets.all()).map(shown);
  }

  /**
   * A new one, or a new value, description and scopes for the one of the same kind and usage, which keeps its id. Throws
   * `secret-exists` for one of volumes, unless it is to be replaced.
   */
  async define({ kind, usage, description, scopes, id, replace }: NewSecret, value: string): Promise<Secret> {
    return this.#store.transaction(async ({ secrets }) => {
      const before = await secrets.byUsage(kind, usage);
      // It could not be named by it: that would be the one with this id.
      const namesake = kind === 'volume' ? await secrets.byId(usage.toLowerCase()) : undefined;
      if (namesake && namesake.id !== before?.id)
        throw new StowageError('invalid-argument', 'usage: is the UUID of another secret');
      const owner = id === undefined ? undefined : await secrets.byId(id);
      if (
        (before && id !== undefined && before.id !== id) ||
        (owner && (owner.usage !== usage || owner.kind !== kind))
      )
        throw new StowageError('invalid-argument', 'another secret has this id, or this usage');
      if (before && kind === 'volume' && !replace)
        throw new StowageError(
          'secret-exists',
          `there is a secret volume ${usage}: what is encrypted with it could not be opened with another value`,
        );
      const own = before?.id ?? id ?? clock.uuid();
      const secret = { id: own, kind, usage, description, scopes, changedAt: clock.now() };
      await secrets.put({ ...secret, sealed: this.#sealing.seal(value, secretLabel(secret)) });
      return secret;
    });
  }

  /** Volumes that are encrypted with a secret, at most `limit`, by place. */
  neededBy(id: string, limit: number): Promise<FleetVolume[]> {
    return this.#store.volumes.list({ secretId: id, limit });
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
  async valueFor({ type, secret }: Auth, host: string, pool: string): Promise<Value> {
    const kind = type && KINDS[type];
    const found =
      'uuid' in secret ? await this.#byId(secret.uuid) : kind && (await this.#byUsage(kind, secret.usage));
    const words = 'uuid' in secret ? secret.uuid : `${kind ?? ''} ${secret.usage}`.trim();
    return this.#open(kind === undefined || found?.kind === kind ? found : undefined, words, { host, pool });
  }

  /**
   * What volumes in a pool are encrypted with, by its id or its usage. Throws `secret-not-found`, and `forbidden` where it
   * is not for that pool.
   */
  async volumeSecret(named: string, place: Place): Promise<{ id: string; usage: string }> {
    const byId = await this.#byId(named);
    const found = byId?.kind === 'volume' ? byId : await this.#byUsage('volume', named);
    // What was given is not repeated: somebody may take it for the passphrase itself.
    const { id, usage } = this.#require(found, 'of kind volume with this UUID or usage', place);
    return { id, usage };
  }

  /**
   * The passphrase of a volume, which is on record with it, or else whose usage is its path; undefined for one that is not encrypted.
   * Throws as {@link volumeSecret} does.
   */
  async passphraseOf(volume: EncryptedVolume): Promise<string | undefined> {
    if (!volume.encryption) return undefined;
    const { secret } = volume.encryption;
    const found =
      secret === undefined ? await this.#byUsage('volume', volume.path) : await this.#byId(secret);
    const isOfVolumes = found?.kind === 'volume';
    return this.#open(isOfVolumes ? found : undefined, secret ?? `volume ${volume.path}`, volume).value;
  }

  /** The passphrase that a secret of volumes is, for a volume in a pool. Throws as {@link volumeSecret} does. */
  async passphraseBy(id: string, place: Place): Promise<string> {
    const found = await this.#byId(id);
    return this.#open(found?.kind === 'volume' ? found : undefined, id, place).value;
  }

  #byId(id: string): Promise<SealedSecret | undefined> {
    return this.#store.secrets.byId(id.toLowerCase());
  }

  #byUsage(kind: SecretKind, usage: string): Promise<SealedSecret | undefined> {
    return this.#store.secrets.byUsage(kind, usage);
  }

  #require(found: SealedSecret | undefined, words: string, { host, pool }: Place): SealedSecret {
    if (!found)
      throw new StowageError('secret-not-found', `there is no secret ${words}; see: stowage secret list`);
    if (!mayTouch({ ...CONTROLLER, scopes: found.scopes, labels: this.#labels }, { host, pool }, 'act'))
      throw new StowageError('forbidden', `the secret ${words} is not for pool ${host}/${pool}`);
    return found;
  }

  #open(found: SealedSecret | undefined, words: string, place: Place): Value {
    const secret = this.#require(found, words, place);
    const { usage, sealed, changedAt, kind } = secret;
    return { value: this.#sealing.open(sealed, secretLabel(secret)), usage: `${kind} ${usage}`, changedAt };
  }
}
