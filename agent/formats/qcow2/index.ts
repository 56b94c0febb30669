import { resolve } from 'node:path';
import { z } from 'zod';
import type { Finding } from '../../../shared/conf/volume.ts';
import { LONGEST_CHAIN } from '../../../shared/formats/qcow2/chain.ts';
import { type Decrypt, Qcow2Content } from '../../../shared/formats/qcow2/content.ts';
import {
  isQcow2,
  mappedBytes,
  parseQcow2Header,
  type Qcow2Header,
  readQcow2Header,
  refuseReferences,
  refuseSmallTable,
} from '../../../shared/formats/qcow2/header.ts';
import { VmdkContent } from '../../../shared/formats/vmdk/content.ts';
import { isVmdk } from '../../../shared/formats/vmdk/header.ts';
import type { Source } from '../../../shared/transfer/source.ts';
import { clock } from '../../../shared/util/clock.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { type RunOptions, run, runOk, UNTRUSTED } from '../../host/run.ts';
import type { Image } from '../../images/image.ts';
import { type ImageFormat, type OpenBacking, refuseShrink } from '../format.ts';
import { readDecrypted } from '../luks/cipher.ts';
import { MOST_HEADER_BYTES, readLuksHeader } from '../luks/header.ts';
import { unlock } from '../luks/master-key.ts';
import { createEmpty, ENCRYPTED_QCOW2, encryptedTarget, passphraseOf, withToolName } from '../qemu-tool.ts';
import { factsOf } from './facts.ts';
import { qcow2Bytes } from './measure.ts';
import { imageOptions } from './options.ts';
import { type Qcow2Snapshot, readSnapshots } from './snapshots.ts';

/** Runs qemu-img on one image; what it wrote is durable afterwards. */
async function qemuImg(
  image: Image,
  command: string,
  args: (image: string) => string[],
  options: RunOptions & { passphrase?: string } = {},
): Promise<string> {
  const header = await readQcow2Header(image);
  const secret = header.encrypted ? passphraseOf(options) : undefined;
  const key = header.encrypted ? ENCRYPTED_QCOW2.arguments : [];
  const { stdout } = await withToolName(image, 'change', (name) =>
    runOk('qemu-img', [command, ...key, '--image-opts', ...args(imageOptions(name, image, header))], {
      ...options,
      secret,
    }),
  );
  await image.flush();
  return stdout;
}

async function snapshotsOf(image: Image): Promise<Qcow2Snapshot[]> {
  return readSnapshots(image, await readQcow2Header(image));
}

/** The one snapshot of a name. qemu takes a name for an id where some snapshot has that id. */
async function snapshotNamed(image: Image, name: string): Promise<Qcow2Snapshot> {
  const [found, another] = (await snapshotsOf(image)).filter((snapshot) => snapshot.name === name);
  if (!found) throw new StowageError('snapshot-not-found', `the volume has no snapshot ${name}`);
  if (another)
    throw new StowageError(
      'not-supported',
      `the volume has several snapshots named ${name}; rename them with qemu-img`,
    );
  return found;
}

const checkSchema = z.object({
  'check-errors': z.number().default(0),
  corruptions: z.number().default(0),
  leaks: z.number().default(0),
  'corruptions-fixed': z.number().default(0),
  'leaks-fixed': z.number().default(0),
});

/** qcow2 images: headers and content are read here, changes are made by qemu-img. */
export const qcow2: ImageFormat = {
  name: 'qcow2',
  plain: false,
  sizedByImage: false,

  mostBytes: (capacityBytes, options) =>
    qcow2Bytes(capacityBytes, {
      clusterBytes: options?.clusterBytes,
      extendedL2: options?.features?.includes('extended_l2'),
      headerBytes: options?.encryption ? MOST_HEADER_BYTES : 0,
    }),

  facts: async (image) => factsOf(await readQcow2Header(image)),

  create: createEmpty,

  async resize(image, capacityBytes, shrink, { signal, passphrase } = {}) {
    const header = await readQcow2Header(image);
    refuseShrink(header.capacityBytes, capacityBytes, shrink);
    await qcow2.unlock?.(image, passphrase);
    const args = (name: string) => [...(shrink ? ['--shrink'] : []), '-q', name, String(capacityBytes)];
    await qemuImg(image, 'resize', args, { signal, passphrase });
  },

  async unlock(image, passphrase) {
    const header = await readQcow2Header(image);
    if (header.encrypted) await decryption(image, header, passphrase);
  },

  inspect(head) {
    refuseReferences(parseQcow2Header(head));
  },

  async adopt(image) {
    refuseReferences(await readQcow2Header(image));
  },

  openContent: (image, openBacking, passphrase) => openContent(image, openBacking, passphrase, 0),

  async fromContent(content, image, volume, signal) {
    await createEmpty(image, volume, signal);
    const secret = volume.encryption && passphraseOf(volume);
    await withToolName(content, 'read', (from) =>
      withToolName(image, 'change', (to) => {
        const ends =
          secret === undefined
            ? ['-O', 'qcow2', from.operand, to.operand]
            : encryptedTarget('qcow2', from, to);
        return runOk('qemu-img', ['convert', '-n', '-f', 'raw', ...ends], { signal, secret });
      }),
    );
    await image.flush();
  },

  async check(image, repair, signal): Promise<Finding[]> {
    refuseEncrypted(await readQcow2Header(image), 'checked');
    const look = async (...mend: string[]): Promise<z.output<typeof checkSchema>> => {
      const header = await readQcow2Header(image);
      const { status, stdout, stderr } = await withToolName(image, 'change', (name) =>
        run(
          'qemu-img',
          ['check', '--output=json', ...mend, '--image-opts', imageOptions(name, image, header)],
          { signal, limits: { ...UNTRUSTED, cpuSeconds: 3600 } },
        ),
      );
      // 2: corruptions, 3: leaks only.
      if (status !== 0 && status !== 2 && status !== 3)
        throw new StowageError(
          'tool-failed',
          `qemu-img check failed with status ${status}: ${stderr.trim()}`,
        );
      return checkSchema.parse(JSON.parse(stdout));
    };
    const found = await look();
    if (repair && (found.corruptions > 0 || found.leaks > 0)) await look('-r', 'all');
    await image.flush();
    return [
      ...(found.corruptions > 0
        ? [
            {
              problem: 'corruptions',
              detail: `${found.corruptions} errors in the tables`,
              fatal: true,
              repair: 'rebuild the tables',
            },
          ]
        : []),
      ...(found.leaks > 0
        ? [
            {
              problem: 'leaks',
              detail: `${found.leaks} clusters that nothing refers to`,
              fatal: false,
              repair: 'free the clusters',
            },
          ]
        : []),
      ...(found['check-errors'] > 0
        ? [
            {
              problem: 'unreadable',
              detail: `${found['check-errors']} places could not be checked`,
              fatal: true,
            },
          ]
        : []),
    ];
  },

  snapshots: {
    async list(image) {
      return (await snapshotsOf(image)).map(({ name, stateBytes }) => ({
        id: name,
        current: false,
        allocationBytes: stateBytes,
      }));
    },
    async create(image, name = `snapshot-${clock.now()}`) {
      refuseEncrypted(await readQcow2Header(image), 'given snapshots');
      if ((await snapshotsOf(image)).some((snapshot) => snapshot.name === name))
        throw new StowageError('snapshot-exists', `the snapshot ${name} exists already`);
      await qemuImg(image, 'snapshot', (options) => ['-q', '-c', name, options]);
      return name;
    },
    async switch(image, name) {
      refuseEncrypted(await readQcow2Header(image), 'given snapshots');
      // By its id: that is looked for first.
      const { id } = await snapshotNamed(image, name);
      await qemuImg(image, 'snapshot', (options) => ['-q', '-a', id, options]);
    },
    async delete(image, name, signal) {
      refuseEncrypted(await readQcow2Header(image), 'given snapshots');
      // By its name: only names are looked for.
      await snapshotNamed(image, name);
      await qemuImg(image, 'snapshot', (options) => ['-q', '-d', name, options], { signal });
    },
    async markOf(image, name) {
      const { backingStore } = await readQcow2Header(image);
      const { id, takenAt, l1Offset, l1Entries } = await snapshotNamed(image, name);
      return `${id}.${takenAt}.${l1Offset}.${l1Entries}.${backingStore?.path ?? ''}`;
    },
    async openContent(image, name, openBacking) {
      const header = await readQcow2Header(image);
      refuseEncrypted(header, 'read at a snapshot');
      const { l1Offset, l1Entries, capacityBytes } = await snapshotNamed(image, name);
      const then = { ...header, l1Offset, l1Entries };
      // An old image says no size: the disk was as large as now, or smaller.
      then.capacityBytes = capacityBytes ?? Math.min(header.capacityBytes, mappedBytes(then));
      refuseSmallTable(then);
      return openFrom(image, then, openBacking, undefined, 0);
    },
  },
};

const openContent = async (
  image: Image,
  openBacking: OpenBacking,
  passphrase: string | undefined,
  depth: number,
): Promise<Source> => openFrom(image, await readQcow2Header(image), openBacking, passphrase, depth);

/** What the guest sees by the first table that a header names. */
async function openFrom(
  image: Image,
  header: Qcow2Header,
  openBacking: OpenBacking,
  passphrase: string | undefined,
  depth: number,
): Promise<Source> {
  const decrypt = header.encrypted ? await decryption(image, header, passphrase) : undefined;
  if (header.externalData)
    throw new StowageError(
      'not-supported',
      'the content of an image with an external data file cannot be read',
    );
  if (depth > LONGEST_CHAIN)
    throw new StowageError(
      'invalid-image',
      'its chain of backing files leads back to itself, or is too long',
    );
  const { backingStore } = header;
  if (!backingStore) return Qcow2Content.open(image, header, undefined, decrypt);
  const below = await openBacking({
    ...backingStore,
    path: image.directory === undefined ? backingStore.path : resolve(image.directory, backingStore.path),
  });
  try {
    const source = await contentOf(below, backingStore.format, openBacking, depth);
    const close = async (): Promise<void> => {
      await source.close();
      await below.close();
    };
    const whole = {
      sizeBytes: source.sizeBytes,
      extents: (from: number, to: number) => source.extents(from, to),
      read: (buffer: Uint8Array, offset: number) => source.read(buffer, offset),
      close,
    };
    return await Qcow2Content.open(image, header, whole, decrypt);
  } catch (error) {
    await below.close();
    throw error;
  }
}

/** What an image stands on is read in the format that the image says; where it says none, as what it is. */
async function contentOf(
  below: Image,
  format: string | undefined,
  openBacking: OpenBacking,
  depth: number,
): Promise<Source> {
  const head = Buffer.alloc(4);
  await below.read(head, 0);
  const known = format ?? (isQcow2(head) ? 'qcow2' : isVmdk(head) ? 'vmdk' : 'raw');
  // What it is encrypted with is not on record anywhere.
  if (known === 'qcow2') return openContent(below, openBacking, undefined, depth + 1);
  if (known === 'vmdk') return VmdkContent.open(below);
  if (known === 'raw')
    return {
      sizeBytes: below.sizeBytes,
      extents: (from: number, to: number) => below.extents(from, to),
      read: (buffer: Uint8Array, offset: number) => below.read(buffer, offset),
      close: async () => undefined,
    };
  throw new StowageError(
    'not-supported',
    `the content of a backing file of format '${known}' cannot be read`,
  );
}

/** For what qemu-img would need the key for, and nobody gives it. */
function refuseEncrypted({ encrypted }: Qcow2Header, what: string): void {
  if (encrypted)
    throw new StowageError('not-supported', `encrypted qcow2 images are not ${what} here; see: qemu-img`);
}

/** How the clusters of an encrypted image are read. Throws `not-supported` for qcow2's own encryption of before LUKS. */
async function decryption(
  image: Image,
  { luksOffset }: Qcow2Header,
  passphrase: string | undefined,
): Promise<Decrypt> {
  if (luksOffset === undefined)
    throw new StowageError(
      'not-supported',
      'it is encrypted in the old way of qcow2, which is not secure; convert it with qemu-img',
    );
  const key = await unlock(
    image,
    await readLuksHeader(image, luksOffset),
    passphraseOf({ passphrase }),
    luksOffset,
  );
  // Sectors are counted from the beginning of the image.
  return (buffer, offset) => readDecrypted(image, key, 0, buffer, offset);
}
