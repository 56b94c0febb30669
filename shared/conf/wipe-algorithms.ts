/** libvirt's ways to wipe a volume. `trim` frees the blocks and lets the storage read zeros; the others overwrite all data. */
export const WIPE_ALGORITHMS = [
  'zero',
  'nnsa',
  'dod',
  'bsi',
  'gutmann',
  'schneier',
  'pfitzner7',
  'pfitzner33',
  'random',
  'trim',
] as const;
export type WipeAlgorithm = (typeof WIPE_ALGORITHMS)[number];
