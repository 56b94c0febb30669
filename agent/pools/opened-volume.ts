import { createHash } from 'node:crypto';
import type { Volume, VolumeFormat } from '../../shared/conf/volume.ts';
import { isStowageError, StowageError } from '../../shared/util/errors.ts';
import type { OpenSnapshot, OpenVolume } from '../backends/backend.ts';
import type { OpenedVolume } from './operations.ts';

export const changedWhileRead = (name: string): StowageError =>
  new StowageError('volume-in-use', `volume '${name}' was changed by somebody else while it was read`);

type ReadableVolume = Volume & { format: Exclude<VolumeFormat, 'unknown'> };

/** Throws `volume-damaged` for a volume whose format nobody knows. */
export function readable(volume: Volume): ReadableVolume {
  const { name, format } = volume;
  if (format !== 'unknown') return { ...volume, format };
  throw new StowageError('volume-damaged', `volume '${name}' cannot be read`);
}

/** A volume that a driver has opened, as it was seen right before. `look` looks at it anew. */
export function openedVolume(
  volume: ReadableVolume,
  opened: OpenVolume,
  look: () => Promise<Volume>,
): OpenedVolume {
  const { name, etag, id: volumeId, format, capacityBytes, encryption, notes, isBase, backingStore } = volume;
  return {
    layout: {
      parts: [...opened.parts],
      ...{ format, capacityBytes, volumeId, etag, encryption, notes, isBase },
      isOverlay: (format === 'qcow2' && backingStore !== undefined) || undefined,
      snapshotsLeft: opened.snapshotsLeft,
    },
    sources: opened.sources,
    async checkUnchanged() {
      const now = await look().catch((error) => {
        if (!isStowageError(error, 'volume-not-found')) throw error;
      });
      if (now?.etag !== etag || (await opened.isChanged?.())) throw changedWhileRead(name);
    },
    [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose](),
  };
}

/** A snapshot of a volume, opened. It stays as it is, whoever writes to the volume: only that it has gone would change what is read. */
export function openedSnapshot(volume: ReadableVolume, id: string, opened: OpenSnapshot): OpenedVolume {
  const { name, id: volumeId, format, encryption } = volume;
  const { content, mark } = opened;
  const { sizeBytes } = content;
  const state = createHash('sha256')
    .update(JSON.stringify([id, mark]))
    .digest('hex')
    .slice(0, 32);
  return {
    layout: {
      parts: [{ name: '', sizeBytes, dense: false }],
      ...{ format, capacityBytes: sizeBytes, volumeId, encryption },
      etag: `${volumeId}-${state}`,
    },
    sources: [content],
    async checkUnchanged() {
      const now = await opened.markNow().catch((error) => {
        if (!isStowageError(error, 'snapshot-not-found')) throw error;
      });
      if (now === mark) return;
      throw new StowageError(
        'volume-in-use',
        `the snapshot ${id} of volume '${name}' was deleted while it was read`,
      );
    },
    [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose](),
  };
}
