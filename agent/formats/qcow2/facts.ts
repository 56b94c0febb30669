import type { Qcow2Header } from '../../../shared/formats/qcow2/header.ts';
import type { FormatFacts } from '../format.ts';

export function factsOf(header: Qcow2Header): FormatFacts {
  const { version, clusterBits, capacityBytes, snapshotCount, backingStore, luksOffset } = header;
  return {
    capacityBytes,
    snapshotCount,
    backingStore,
    compat: version === 2 ? '0.10' : '1.1',
    encryption: luksOffset === undefined ? undefined : { format: 'luks' },
    clusterBytes: 1 << clusterBits,
    features:
      version === 2
        ? undefined
        : [
            ...(header.lazyRefcounts ? (['lazy_refcounts'] as const) : []),
            ...(header.extendedL2 ? (['extended_l2'] as const) : []),
          ],
  };
}
