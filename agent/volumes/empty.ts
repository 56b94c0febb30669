import type { FoundVolume } from '../backends/backend.ts';
import type { WantedVolume } from '../formats/format.ts';

/** What a volume was made with, for an empty one in its place. */
export function emptyOf(volume: FoundVolume): Omit<WantedVolume, 'format'> {
  const { name, capacityBytes, compat, clusterBytes, features = [], encryption, passphrase } = volume;
  return {
    name,
    capacityBytes,
    preallocate: false,
    encryption,
    passphrase,
    qcow2: { compat, clusterBytes, features },
  };
}
