import { StowageError } from '../../shared/util/errors.ts';
import type { Image } from './image.ts';

/**
 * The first bytes of an image as an image of their own, of fixed size: a device may be larger than what is in it. What is written or
 * zeroed behind them is `invalid-argument`, and changes nothing. Closing it closes nothing.
 */
export function firstBytes(image: Image, sizeBytes: number): Image {
  const close = async (): Promise<void> => undefined;
  const require = (end: number): void => {
    if (end > sizeBytes)
      throw new StowageError('invalid-argument', `bytes up to ${end} lie outside of ${sizeBytes}`);
  };
  return {
    sizeBytes,
    uninitialised: image.uninitialised,
    extents: (from, to) => image.extents(from, Math.min(to, sizeBytes)),
    async read(buffer, offset) {
      const inside = buffer.subarray(0, Math.max(0, sizeBytes - offset));
      if (inside.length > 0) await image.read(inside, offset);
      buffer.fill(0, inside.length);
    },
    async write(bytes, offset) {
      require(offset + bytes.length);
      await image.write(bytes, offset);
    },
    async zero(offset, length, dense) {
      require(offset + length);
      await image.zero(offset, length, dense);
    },
    flush: () => image.flush(),
    allocationBytes: () => image.allocationBytes(),
    close,
    [Symbol.asyncDispose]: close,
  };
}
