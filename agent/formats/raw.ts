import { isZero } from '../host/files.ts';
import type { Image } from '../images/image.ts';
import { type ImageFormat, refuseShrink } from './format.ts';

const STEP = 1 << 20;

/** Raw images: the bytes are what the guest sees. */
export const raw: ImageFormat = {
  name: 'raw',
  plain: true,
  sizedByImage: true,

  mostBytes: (capacityBytes) => capacityBytes,

  facts: async (image) => ({ capacityBytes: image.sizeBytes, snapshotCount: 0 }),

  async create(image) {
    await image.flush();
  },

  async resize(image, capacityBytes, shrink) {
    refuseShrink(image.sizeBytes, capacityBytes, shrink);
    await image.setSize?.(capacityBytes);
    await image.flush();
  },

  inspect() {
    // Any bytes are a raw image. Its format is on record, so a header that a guest wrote is never believed.
  },

  async adopt() {},

  openContent: async (image) => ({
    sizeBytes: image.sizeBytes,
    extents: (from, to) => image.extents(from, to),
    read: (buffer, offset) => image.read(buffer, offset),
    close: async () => undefined,
  }),

  async fromContent(content, image, wanted, signal) {
    if (image.sizeBytes < wanted.capacityBytes) await image.setSize?.(wanted.capacityBytes);
    await copyImage(content, image, signal);
    await image.flush();
  },
};

/** Copies data, and leaves out holes and zeros: `target` reads as zeros before. */
export async function copyImage(source: Image, target: Image, signal?: AbortSignal): Promise<void> {
  const buffer = Buffer.alloc(STEP);
  for await (const { offset, length } of source.extents(0, source.sizeBytes))
    for (let done = 0; done < length; done += STEP) {
      signal?.throwIfAborted();
      const part = buffer.subarray(0, Math.min(STEP, length - done));
      await source.read(part, offset + done);
      if (!isZero(part)) await target.write(part, offset + done);
    }
}
