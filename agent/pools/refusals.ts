import type { Volume, VolumeEncryption, VolumeFormat } from '../../shared/conf/volume.ts';
import { StowageError } from '../../shared/util/errors.ts';

/** Throws `volume-protected` for a volume that is to stay whatever is asked. */
export function refuseProtected({ name, isProtected }: Volume): void {
  if (isProtected)
    throw new StowageError(
      'volume-protected',
      `volume '${name}' is protected: it stays as long as that is not taken off`,
    );
}

/** Throws `volume-is-base` for a volume that takes no write. */
export function refuseBase({ name, isBase }: Volume): void {
  if (isBase)
    throw new StowageError(
      'volume-is-base',
      `volume '${name}' is a base, which stays as it is; make it a volume again to change it`,
    );
}

/** Throws `volume-has-clones`, naming some, where `clones` stand on a volume. */
export function refuseClones({ name }: Volume, clones: readonly string[]): void {
  if (clones.length > 0)
    throw new StowageError(
      'volume-has-clones',
      `${clones.length} linked clones stand on volume '${name}': ${clones.slice(0, 20).join(', ')}${clones.length > 20 ? ', …' : ''}`,
    );
}

/** Throws `invalid-argument` for a format that cannot be encrypted, or cannot be otherwise. */
export function refuseEncryption(
  format: VolumeFormat,
  encryption: VolumeEncryption | undefined,
  isMade: boolean,
): void {
  if (isMade && format === 'luks' && !encryption)
    throw new StowageError('invalid-argument', 'a luks volume is encrypted: say with which secret');
  if (encryption && format !== 'luks' && format !== 'qcow2')
    throw new StowageError('invalid-argument', `a ${format} volume is not encrypted here: luks or qcow2 is`);
}
