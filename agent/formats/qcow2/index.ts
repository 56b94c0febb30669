import { resolve } from 'node:path';
import { z } from 'zod';
import { qemuImgCommands } from '../../../shared/conf/qemu-img.ts';
import type { Finding, NewVolume } from '../../../shared/conf/volume.ts';
import type { Source } from '../../../shared/transfer/source.ts';
import { clock } from '../../../shared/util/clock.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { type RunOptions, run, runOk, UNTRUSTED } from '../../host/run.ts';
import type { Image } from '../../images/image.ts';
import { serveImage } from '../../images/nbd-server.ts';
import { type ImageFormat, type OpenBacking, refuseShrink } from '../format.ts';
import { Qcow2Content } from './content.ts';
import {
  factsOf,
  isQcow2,
  parseQcow2Header,
  type Qcow2Header,
  readQcow2Header,
  refuseReferences,
} from './header.ts';
import { qcow2Bytes } from './measure.ts';
import { type Qcow2Snapshot, readSnapshots } from './snapshots.ts';

/** No chain is longer; one that leads back to itself is. */
const LONGEST_CHAIN = 64;

/** qemu reads a comma as the end of a value, and two as one. */
const escaped = (value: string): string => value.replaceAll(',', ',,');

/** How qemu-img opens an image: as an operand, and as options of its node. */
interface ToolName {
  operand: string;
  options: string;
}

/** What qemu-img may add to an image at once where that can grow: tables. */
const MOST_GROWTH = 1 << 30;

/** Runs `work` with a name by which qemu-img opens an image, to read or to change. */
async function named<T>(
  image: Image,
  change: 'read' | 'change',
  work: (name: ToolName) => Promise<T>,
): Promise<T> {
  const { toolPath } = image;
  if (toolPath !== undefined)
    return work({ operand: toolPath, options: `file.filename=${escaped(toolPath)}` });
  const grows = change === 'change' && image.setSize !== undefined;
  await using served = await serveImage(image, grows ? MOST_GROWTH : 0);
  const { socket } = served;
  try {
    return await work({
      operand: `nbd+unix:///?socket=${socket}`,
      options: `file.driver=nbd,file.server.type=unix,file.server.path=${escaped(socket)}`,
    });
  } catch (error) {
    // What the storage said tells more than what qemu-img makes of it.
    throw served.failure ?? error;
  }
}

/**
 * How qemu-img is told of an image: always with its format, so that it never guesses, by a descriptor that we opened
 * ourselves, and with its backing file by its whole path, as a relative one would start from the descriptor.
 */
function imageOptions(
  name: ToolName,
  image: Image,
  { backingStore }: Pick<Qcow2Header, 'backingStore'>,
): string {
  const options = ['driver=qcow2', name.options];
  if (backingStore && image.directory !== undefined && !/^\w+:/.test(backingStore.path)) {
    const path = resolve(image.directory, backingStore.path);
    options.push(
      ...(backingStore.format ? [`backing.driver=${escaped(backingStore.format)}`] : []),
      `backing.file.filename=${escaped(path)}`,
    );
  }
  return options.join(',');
}

/** Runs qemu-img on one image; what it wrote is durable afterwards. */
async function qemuImg(
  image: Image,
  command: string,
  args: (image: string) => string[],
  options: RunOptions = {},
): Promise<string> {
  const header = await readQcow2Header(image);
  const { stdout } = await named(image, 'change', (name) =>
    runOk('qemu-img', [command, '--image-opts', ...args(imageOptions(name, image, header))], options),
  );
  await image.flush();
  return stdout;
}

async function snapshotsOf(image: Image): Promise<Qcow2Snapshot[]> {
  return readSnapshots(image, await readQcow2Header(image));
}

/** The one snapshot of a name. qemu takes a name for an id where some snapshot has that id. */
async function snapshotNamed(image: Image, name: string): Promise<{ id: string; name: string }> {
  const [found, another] = (await snapshotsOf(image)).filter((snapshot) => snapshot.name === name);
  if (!found) throw new StowageError('snapshot-not-found', `the volume has no snapshot ${name}`);
  if (another)
    throw new StowageError(
      'not-supported',
      `the volume has several snapshots named ${name}; rename them with qemu-img`,
    );
  return found;
}

/** The arguments of `qemu-img create` for a volume at `path`. */
function createArguments(path: string, volume: NewVolume): string[] {
  const { capacityBytes, preallocate, qcow2: options } = volume;
  const [create = []] = qemuImgCommands(
    {
      document: {
        type: 'file',
        name: volume.name,
        capacityBytes: BigInt(capacityBytes),
        // The metadata is written, the blocks are not reserved.
        allocationBytes: 0n,
        target: {
          path,
          format: 'qcow2',
          compat: options?.compat,
          clusterBytes: options?.clusterBytes === undefined ? undefined : BigInt(options.clusterBytes),
          features: options?.features,
        },
      },
    },
    { preallocateMetadata: preallocate },
  );
  return create;
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

  mostBytes: (capacityBytes, options) =>
    qcow2Bytes(capacityBytes, {
      clusterBytes: options?.clusterBytes,
      extendedL2: options?.features?.includes('extended_l2'),
    }),

  facts: async (image) => factsOf(await readQcow2Header(image)),

  async create(image, volume, signal) {
    await named(image, 'change', ({ operand }) =>
      runOk('qemu-img', createArguments(operand, volume), { signal }),
    );
    await image.flush();
  },

  async resize(image, capacityBytes, shrink, signal) {
    const header = await readQcow2Header(image);
    refuseShrink(header.capacityBytes, capacityBytes, shrink);
    const args = (name: string) => [...(shrink ? ['--shrink'] : []), '-q', name, String(capacityBytes)];
    await qemuImg(image, 'resize', args, { signal });
  },

  inspect(head) {
    refuseReferences(parseQcow2Header(head));
  },

  async adopt(image) {
    refuseReferences(await readQcow2Header(image));
  },

  openContent: (image, openBacking) => openContent(image, openBacking, 0),

  async fromContent(content, image, volume, signal) {
    await qcow2.create(image, volume, signal);
    const args = ['convert', '-n', '-f', 'raw', '-O', 'qcow2'];
    await named(content, 'read', (from) =>
      named(image, 'change', (to) => runOk('qemu-img', [...args, from.operand, to.operand], { signal })),
    );
    await image.flush();
  },

  async check(image, repair, signal): Promise<Finding[]> {
    const look = async (...mend: string[]): Promise<z.output<typeof checkSchema>> => {
      const header = await readQcow2Header(image);
      const { status, stdout, stderr } = await named(image, 'change', (name) =>
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
      if ((await snapshotsOf(image)).some((snapshot) => snapshot.name === name))
        throw new StowageError('snapshot-exists', `the snapshot ${name} exists already`);
      await qemuImg(image, 'snapshot', (options) => ['-q', '-c', name, options]);
      return name;
    },
    async switch(image, name) {
      // By its id: that is looked for first.
      const { id } = await snapshotNamed(image, name);
      await qemuImg(image, 'snapshot', (options) => ['-q', '-a', id, options]);
    },
    async delete(image, name, signal) {
      // By its name: only names are looked for.
      await snapshotNamed(image, name);
      await qemuImg(image, 'snapshot', (options) => ['-q', '-d', name, options], { signal });
    },
  },
};

async function openContent(image: Image, openBacking: OpenBacking, depth: number): Promise<Source> {
  const header = await readQcow2Header(image);
  if (header.encrypted)
    throw new StowageError('not-supported', 'the content of an encrypted image cannot be read');
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
  if (!backingStore) return Qcow2Content.open(image, header, undefined);
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
    return await Qcow2Content.open(image, header, {
      sizeBytes: source.sizeBytes,
      extents: (from, to) => source.extents(from, to),
      read: (buffer, offset) => source.read(buffer, offset),
      close,
    });
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
  const known = format ?? (isQcow2(head) ? 'qcow2' : 'raw');
  if (known === 'qcow2') return openContent(below, openBacking, depth + 1);
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
