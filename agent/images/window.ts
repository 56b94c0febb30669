import type { Image } from './image.ts';

/** The first bytes of an image as an image of their own, of fixed size: a device may be larger than what is in it. */
export function firstBytes(image: Image, sizeBytes: number): Image {
  const close = async (): Promise<void> => undefined;
  return {
    sizeBytes,
    uninitialised: image.uninitialised,
    extents: (from, to) => image.extents(from, Math.min(to, sizeBytes)),
    read: (buffer, offset) => image.read(buffer, offset),
    write: (bytes, offset) => image.write(bytes, offset),
    zero: (...range) => image.zero(...range),
    flush: () => image.flush(),
    allocationBytes: () => image.allocationBytes(),
    close,
    [Symbol.asyncDispose]: close,
  };
}
