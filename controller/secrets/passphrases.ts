import { ENCRYPTABLE_FORMATS } from '../../shared/conf/image-formats.ts';
import {
  type Volume,
  type VolumeEncryption,
  type VolumeFormat,
  volumeSchema,
} from '../../shared/conf/volume.ts';
import { isStowageError } from '../../shared/util/errors.ts';
import { splitReference } from '../../shared/util/references.ts';
import { agentVolumePath } from '../hosts/agent-client.ts';
import type { Fleet } from '../hosts/fleet.ts';
import type { Secrets } from './secrets.ts';

/** What volumes are opened with. Whether one is encrypted, and with which secret, its agent is asked. */
export class Passphrases {
  readonly #secrets: Secrets;
  readonly #fleet: Fleet;

  constructor(secrets: Secrets, fleet: Fleet) {
    this.#secrets = secrets;
    this.#fleet = fleet;
  }

  /**
   * What opens `host/pool/volume`; undefined where it is not encrypted, or not there. Throws `secret-not-found`, and `forbidden` where
   * the secret is not for its pool.
   */
  async of(reference: string): Promise<string | undefined> {
    const [host = '', pool = '', volume = ''] = splitReference(reference);
    const agent = await this.#fleet.client(host);
    const found = await agent.json(volumeSchema, agentVolumePath({ pool, volume })).catch((error) => {
      if (!isStowageError(error, 'volume-not-found')) throw error;
      return undefined;
    });
    return found && this.#secrets.passphraseOf({ host, pool, ...found });
  }

  /**
   * What `host/pool/volume` is to be encrypted with; undefined where it is not to be. Without a secret on record it is that of the
   * volume that is there. Throws as {@link of} does.
   */
  async toMake(encryption: VolumeEncryption | undefined, reference: string): Promise<string | undefined> {
    if (!encryption) return undefined;
    const [host = '', pool = ''] = splitReference(reference);
    const { secret } = encryption;
    return secret === undefined ? this.of(reference) : this.#secrets.passphraseBy(secret, { host, pool });
  }
}

/** How a volume will be encrypted: as asked for, else as what it replaces is, where its format can be. */
export function encryptionFor(
  format: VolumeFormat,
  secret: string | undefined,
  before: Pick<Volume, 'encryption'> | undefined,
): VolumeEncryption | undefined {
  if (secret !== undefined) return { format: 'luks', secret };
  return ENCRYPTABLE_FORMATS.includes(format) ? before?.encryption : undefined;
}
