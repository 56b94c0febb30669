/** Refcounts of 16 bits, as qemu makes them. */
const REFCOUNT_BYTES = 2;

/**
 * The bytes that a qcow2 image takes at most, once all of it is written: header, tables, refcounts and data. The room that it needs
 * where it cannot grow, as on a block device. `headerBytes` is what a LUKS header in it takes.
 */
export function qcow2Bytes(
  capacityBytes: number,
  {
    clusterBytes = 64 << 10,
    extendedL2 = false,
    headerBytes = 0,
  }: { clusterBytes?: number; extendedL2?: boolean; headerBytes?: number } = {},
): number {
  const clustersOf = (bytes: number): number => Math.ceil(bytes / clusterBytes);
  const data = clustersOf(capacityBytes);
  const l2 = clustersOf(data * (extendedL2 ? 16 : 8));
  const l1 = clustersOf(l2 * 8);
  const counted = 1 + data + l2 + l1 + clustersOf(headerBytes);
  // Refcounts count the clusters that they lie in, too.
  let refcounts = 0;
  for (;;) {
    const blocks = clustersOf((counted + refcounts) * REFCOUNT_BYTES);
    const needed = blocks + clustersOf(blocks * 8);
    if (needed <= refcounts) break;
    refcounts = needed;
  }
  return (counted + refcounts) * clusterBytes;
}
