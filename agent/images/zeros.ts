import type { Image } from './image.ts';

const STEP = 64 << 20;

/**
 * Makes everything from an offset on read as zeros, in steps: a cancel waits for one of them. `dense`: by writing them, so that
 * the storage reserves their room. Durable after a flush.
 */
export async function zeroFrom(
  image: Image,
  offset: number,
  { dense = false, signal }: { dense?: boolean; signal?: AbortSignal },
): Promise<void> {
  for (let at = offset; at < image.sizeBytes; at += STEP) {
    signal?.throwIfAborted();
    await image.zero(at, Math.min(STEP, image.sizeBytes - at), dense);
  }
}
