import type { Source, SourceExtent } from '../../../shared/transfer/source.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { runOk } from '../../host/run.ts';
import type { Image } from '../../images/image.ts';
import { type ImageFormat, refuseShrink } from '../format.ts';
import { createEmpty, encryptedTarget, passphraseOf, withToolName } from '../qemu-tool.ts';
import { readDecrypted } from './cipher.ts';
import { isLuks, MOST_HEADER_BYTES, readLuksHeader, SECTOR } from './header.ts';
import { unlock } from './master-key.ts';

/**
 * What is in an encrypted image. Where that has a hole nobody has written: a guest sees noise there, and here it is zeros.
 */
class LuksContent implements Source {
  readonly sizeBytes: number;
  readonly #image: Image;
  readonly #key: Buffer;
  readonly #start: number;

  /** `start` is where in the image the content begins. */
  constructor(image: Image, key: Buffer, start: number) {
    this.#image = image;
    this.#key = key;
    this.#start = start;
    this.sizeBytes = image.sizeBytes - start;
  }

  async *extents(from: number, to: number): AsyncGenerator<SourceExtent> {
    const end = Math.min(to, this.sizeBytes);
    for await (const { offset, length } of this.#image.extents(this.#start + from, this.#start + end))
      yield { offset: offset - this.#start, length };
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    buffer.fill(0);
    // Whole sectors: what begins in a hole of the file system may be data further on in its sector.
    const from = Math.floor(offset / SECTOR) * SECTOR;
    const to = Math.ceil((offset + buffer.length) / SECTOR) * SECTOR;
    for await (const extent of this.extents(from, to)) {
      const start = Math.max(Math.floor(extent.offset / SECTOR) * SECTOR, offset);
      const end = Math.min(
        Math.ceil((extent.offset + extent.length) / SECTOR) * SECTOR,
        offset + buffer.length,
      );
      if (end > start)
        await readDecrypted(
          this.#image,
          this.#key,
          this.#start,
          buffer.subarray(start - offset, end - offset),
          start,
        );
    }
  }

  async close(): Promise<void> {}
}

/**
 * Images encrypted as a whole with LUKS of version 1, which qemu's guests open with a passphrase. Headers and content are read
 * here, changes are made by qemu-img.
 */
export const luks: ImageFormat = {
  name: 'luks',
  plain: false,
  sizedByImage: true,

  mostBytes: (capacityBytes) => capacityBytes + MOST_HEADER_BYTES,

  async facts(image) {
    const { payloadOffset } = await readLuksHeader(image);
    return factsOfLuks(payloadOffset, image.sizeBytes);
  },

  create: createEmpty,

  async resize(image, capacityBytes, shrink) {
    const { payloadOffset } = await readLuksHeader(image);
    refuseShrink(image.sizeBytes - payloadOffset, capacityBytes, shrink);
    await image.setSize?.(payloadOffset + Math.ceil(capacityBytes / SECTOR) * SECTOR);
    await image.flush();
  },

  inspect(head) {
    if (!isLuks(head)) throw new StowageError('invalid-image', 'it does not begin as LUKS of version 1 does');
  },

  async adopt(image) {
    const { payloadOffset } = await readLuksHeader(image);
    factsOfLuks(payloadOffset, image.sizeBytes);
  },

  async openContent(image, _openBacking, passphrase) {
    const header = await readLuksHeader(image);
    factsOfLuks(header.payloadOffset, image.sizeBytes);
    const key = await unlock(image, header, passphraseOf({ passphrase }));
    return new LuksContent(image, key, header.payloadOffset);
  },

  async unlock(image, passphrase) {
    await unlock(image, await readLuksHeader(image), passphraseOf({ passphrase }));
  },

  async fromContent(content, image, volume, signal) {
    await createEmpty(image, volume, signal);
    const secret = passphraseOf(volume);
    await withToolName(content, 'read', (from) =>
      withToolName(image, 'change', (to) =>
        runOk('qemu-img', ['convert', '-n', '-f', 'raw', ...encryptedTarget('luks', from, to)], {
          signal,
          secret,
        }),
      ),
    );
    await image.flush();
  },
};

/** Throws `invalid-image` for a header that takes more than there is. */
export function factsOfLuks(payloadOffset: number, sizeBytes: number) {
  if (payloadOffset >= sizeBytes)
    throw new StowageError('invalid-image', 'its LUKS header says that it is longer');
  return {
    capacityBytes: sizeBytes - payloadOffset,
    snapshotCount: 0,
    encryption: { format: 'luks' as const },
  };
}
