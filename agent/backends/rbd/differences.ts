import { type Callback, callback } from '../../host/native.ts';
import type { Extent } from '../../images/image.ts';
import { ceph, checked } from './librbd.ts';

type Listener = (extent: Extent, exists: boolean) => void;

/** Who hears of the extents of a difference, by the number that Ceph passes on. */
const listeners = new Map<number, Listener>();
let lastListener = 0;
let onExtent: Callback | undefined;

const listening = (): Callback =>
  callback(
    'int stowage_rbd_extent(uint64_t offset, size_t length, int exists, uint64_t listener)',
    (offset: number | bigint, length: number | bigint, exists: number, listener: number | bigint) => {
      listeners.get(Number(listener))?.({ offset: Number(offset), length: Number(length) }, exists !== 0);
      return 0;
    },
  );

export interface DifferenceRange {
  /** Name of the older snapshot; null for what there is at all. */
  from: string | null;
  start: number;
  end: number;
  /** What shines through from the image that this one was cloned of counts too. */
  withParent: boolean;
  /** Whole objects, which is quick where the cluster keeps count of them. */
  wholeObjects: boolean;
}

/** Where an open image differs, in order. What it has no more counts, too, when it is compared with a snapshot. */
export async function differences(image: bigint, range: DifferenceRange): Promise<Extent[]> {
  const { from, start, end, withParent, wholeObjects } = range;
  const found: Extent[] = [];
  const number = ++lastListener;
  listeners.set(number, (extent, exists) => {
    if (exists || from !== null) found.push(extent);
  });
  onExtent ??= listening();
  const flags = [withParent, wholeObjects].map(Number) as [number, number];
  try {
    checked(
      await ceph().diff(image, from, start, end - start, ...flags, onExtent, number),
      'looking for what an image holds',
    );
    return found.sort((one, other) => one.offset - other.offset);
  } finally {
    listeners.delete(number);
  }
}
