import { StowageError } from '../util/errors.ts';
import { type NewVolume, type Volume, volumeFormatSchema } from './volume.ts';
import type { VolumeDocument } from './volume-xml.ts';
import type { Encryption } from './xml/encryption.ts';

const refuse = (what: string): StowageError =>
  new StowageError('not-supported', `a new volume cannot have ${what} here yet`);

/**
 * The volume that a document asks for. As in libvirt a raw volume whose allocation is not less than its capacity, which it
 * is where the document does not say it, has its blocks reserved; key and path are the pool's to give. What is asked
 * beyond that is refused with `not-supported`: nothing that somebody wrote down is left out in silence.
 */
export function newVolumeOf(
  document: VolumeDocument,
): Omit<NewVolume, 'ploop' | 'encryption'> & { secret?: string } {
  const { type, name, capacityBytes, allocationBytes, target, backingStore } = document;
  if (type !== 'file' && type !== 'ploop') throw refuse(`the type '${type}'`);
  const { data: container } = volumeFormatSchema.safeParse(type === 'ploop' ? 'ploop' : target.format);
  if (!container) throw refuse(`the format '${target.format}'`);
  const secret = target.encryption && secretOf(target.encryption);
  const format = secret !== undefined && container === 'raw' ? 'luks' : container;
  const beyond = {
    'a backing store': backingStore,
    '<nocow>': target.nocow,
    'a label': target.permissions?.label,
  };
  for (const [what, value] of Object.entries(beyond)) if (value !== undefined) throw refuse(what);
  if (target.compat !== undefined && target.compat !== '0.10' && target.compat !== '1.1')
    throw refuse(`the compat level '${target.compat}'`);
  if (target.permissions && format === 'ploop') throw refuse('<permissions> and the format ploop');
  if (capacityBytes > BigInt(Number.MAX_SAFE_INTEGER)) throw refuse(`a capacity of ${capacityBytes} bytes`);
  return {
    name,
    capacityBytes: Number(capacityBytes),
    format,
    preallocate: (format === 'raw' || format === 'luks') && allocationBytes >= capacityBytes,
    permissions: target.permissions,
    secret,
    qcow2:
      format === 'qcow2'
        ? {
            compat: target.compat === '0.10' ? '0.10' : '1.1',
            clusterBytes: target.clusterBytes === undefined ? undefined : Number(target.clusterBytes),
            features: target.features ?? [],
          }
        : undefined,
  };
}

/** The id, or the usage, of the one secret of an encryption that can be made here. */
function secretOf({ format, engine, secrets, cipher, ivgen }: Encryption): string {
  const [secret] = secrets;
  if (format !== 'luks' || engine === 'librbd') throw refuse(`the encryption '${engine ?? format}'`);
  if (!secret || secrets.length > 1)
    throw new StowageError('invalid-argument', 'an encrypted volume has one secret: say which');
  const isDefaultCipher =
    (!cipher || (cipher.name === 'aes' && cipher.sizeBits === 256 && (cipher.mode ?? 'xts') === 'xts')) &&
    (cipher?.hash ?? 'sha256') === 'sha256' &&
    (ivgen?.name ?? 'plain64') === 'plain64';
  if (!isDefaultCipher) throw refuse('another cipher than aes-256-xts-plain64 with sha256');
  return 'uuid' in secret ? secret.uuid : secret.usage;
}

/** As libvirt tells of it: with a secret where that is known. */
function encryptionOf({ encryption }: Volume): Encryption | undefined {
  if (!encryption) return undefined;
  const { format, secret } = encryption;
  return { format, secrets: secret === undefined ? [] : [{ uuid: secret }] };
}

/** The document of a volume as its host sees it. */
export function documentOfVolume(volume: Volume): VolumeDocument {
  const { type, name, path, format, permissions, timestamps, compat, features, clusterBytes } = volume;
  return {
    type,
    name,
    key: path,
    capacityBytes: BigInt(volume.capacityBytes),
    allocationBytes: BigInt(volume.allocationBytes),
    target: {
      path,
      format: format === 'unknown' ? undefined : format === 'luks' ? 'raw' : format,
      encryption: encryptionOf(volume),
      permissions,
      timestamps,
      compat,
      clusterBytes: clusterBytes === undefined ? undefined : BigInt(clusterBytes),
      features,
    },
    backingStore: volume.backingStore,
  };
}
