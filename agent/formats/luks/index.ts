import { StowageError } from '../../../shared/util/errors.ts';
import { runOk } from '../../host/run.ts';
import { type ImageFormat, refuseShrink } from '../format.ts';
import { createArguments, encryptedTarget, named, passphraseOf } from '../qemu-tool.ts';
import { readDecrypted } from './cipher.ts';
import { isLuks, readLuksHeader } from './header.ts';
import { unlock } from './master-key.ts';

/** As much as the headers of qemu and cryptsetup take at most. */
const MOST_HEADER_BYTES = 2 << 20;

/**
 * Images encrypted as a whole with LUKS of version 1, which qemu's guests open with a passphrase. Headers and content are read
 * here, changes are made by qemu-img. There are no holes in what they hold: what nobody wrote is noise, as it is for a guest.
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

  async create(image, volume, signal) {
    const secret = passphraseOf(volume);
    await named(image, 'change', ({ operand }) =>
      runOk('qemu-img', createArguments(operand, volume), { signal, secret }),
    );
    await image.flush();
  },

  async resize(image, capacityBytes, shrink) {
    const { payloadOffset } = await readLuksHeader(image);
    refuseShrink(image.sizeBytes - payloadOffset, capacityBytes, shrink);
    await image.setSize?.(payloadOffset + capacityBytes);
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
    const key = await unlock(image, header, passphraseOf({ passphrase }));
    const { payloadOffset } = header;
    const sizeBytes = image.sizeBytes - payloadOffset;
    return {
      sizeBytes,
      async *extents(from, to) {
        // What holds no block is noise, and as good as zeros.
        for await (const { offset, length } of image.extents(payloadOffset + from, payloadOffset + to))
          yield { offset: offset - payloadOffset, length };
      },
      read: (buffer, offset) => readDecrypted(image, key, payloadOffset, buffer, offset),
      close: async () => undefined,
    };
  },

  async fromContent(content, image, volume, signal) {
    await luks.create(image, volume, signal);
    const secret = passphraseOf(volume);
    await named(content, 'read', (from) =>
      named(image, 'change', (to) =>
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
