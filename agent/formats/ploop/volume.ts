import { readdir, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { StowageError } from '../../../shared/util/errors.ts';
import { exists, openRegular, removeIfExists, replaceFile, syncDirectory } from '../../host/files.ts';
import { lockFile } from '../../host/lock.ts';
import {
  chainOf,
  DESCRIPTOR,
  type Descriptor,
  type DescriptorImage,
  formatDescriptor,
  parseDescriptor,
} from './descriptor.ts';
import { decodeHeader, HEADER_BYTES, SECTOR } from './header.ts';
import { type Delta, type ExpandedDelta, openDelta, openExpanded } from './image.ts';
import { mountedDevice } from './mounted.ts';

/** What a change under way would leave behind if it were killed; the next change cleans it up. */
const INTENT = '.stowage-intent.json';
const intentSchema = z.object({
  /** Files to delete when the descriptor does not name them. */
  files: z.array(z.string().regex(/^[^/\0]+$/)),
  /** Images that we may have left marked as in use. */
  marked: z.array(z.string().regex(/^[^/\0]+$/)),
  /** Once noted, to be done again until done: `from` takes the name `to`, with this descriptor. */
  redo: z
    .object({
      from: z.string().regex(/^[^/\0]+$/),
      to: z.string().regex(/^[^/\0]+$/),
      descriptor: z.string(),
    })
    .optional(),
});
export type Intent = z.infer<typeof intentSchema>;

export async function readDescriptor(directory: string): Promise<Descriptor> {
  const path = join(directory, DESCRIPTOR);
  const file = await openRegular(path, 'r').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT')
      throw new StowageError(
        'invalid-image',
        `${directory} has no ${DESCRIPTOR}; 'vol repair', or 'stowage-agent ploop restore', writes it anew`,
      );
    throw error;
  });
  try {
    return parseDescriptor(await file.readFile('utf8'), path);
  } finally {
    await file.close();
  }
}

/** Atomic, durable, with the tool's own temporary name and mode. */
export async function writeDescriptor(directory: string, descriptor: Descriptor): Promise<void> {
  const path = join(directory, DESCRIPTOR);
  await replaceFile(path, formatDescriptor(descriptor), 0o644, `${path}.tmp`);
}

/** The open deltas of one snapshot, base first. */
export class Chain implements AsyncDisposable {
  readonly deltas: Delta[];
  constructor(deltas: Delta[]) {
    this.deltas = deltas;
  }

  get top(): Delta {
    return this.deltas.at(-1)!;
  }

  /** The delta that decides a cluster, seen from the top; undefined where the guest reads zeros. */
  find(index: number): { delta: Delta; offset: number } | undefined {
    for (let level = this.deltas.length - 1; level >= 0; level--) {
      const delta = this.deltas[level]!;
      const offset = delta.clusterOffset(index);
      if (offset !== undefined) return { delta, offset };
    }
    return undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const delta of this.deltas) await delta[Symbol.asyncDispose]();
  }
}

export async function openChain(
  directory: string,
  descriptor: Descriptor,
  guid = descriptor.topGuid,
  writable: (file: string) => boolean = () => false,
): Promise<Chain> {
  const clusterBytes = descriptor.blocksizeSectors * SECTOR;
  const deltas: Delta[] = [];
  try {
    for (const image of chainOf(descriptor, guid)) {
      const delta = await openDelta(directory, image, clusterBytes, writable(image.file) ? 'r+' : 'r');
      deltas.push(delta);
      if (delta.clusterBytes !== clusterBytes) {
        throw new StowageError(
          'invalid-image',
          `${delta.path}: its clusters are not of the size that the descriptor says`,
        );
      }
    }
    return new Chain(deltas);
  } catch (error) {
    for (const delta of deltas) await delta[Symbol.asyncDispose]();
    throw error;
  }
}

/** Clears the in-use mark of an image whose table is sound. */
export async function clearInUse(path: string): Promise<void> {
  const file = await openRegular(path, 'r+');
  try {
    const head = Buffer.alloc(HEADER_BYTES);
    await file.read(head, 0, HEADER_BYTES, 0);
    decodeHeader(head, path);
    head.writeUInt32LE(0, 44);
    await file.write(head.subarray(44, 48), 0, 4, 44);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function readIntent(directory: string): Promise<Intent | undefined> {
  const text = await readFile(join(directory, INTENT), 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
  return text === undefined ? undefined : intentSchema.parse(JSON.parse(text));
}

/** Finishes what a killed change left: files that nothing names go, marks of ours are taken back. */
async function settle(directory: string): Promise<void> {
  const intent = await readIntent(directory);
  if (!intent) return;
  if (intent.redo) await redo(directory, intent.redo);
  const named = new Set((await readDescriptor(directory)).images.map((image) => image.file));
  for (const file of intent.files) if (!named.has(file)) await removeIfExists(join(directory, file));
  for (const file of intent.marked) if (named.has(file)) await clearInUse(join(directory, file));
  await syncDirectory(directory);
  await removeIfExists(join(directory, INTENT));
}

async function redo(directory: string, step: NonNullable<Intent['redo']>): Promise<void> {
  if (await exists(join(directory, step.from)))
    await rename(join(directory, step.from), join(directory, step.to));
  await writeDescriptor(directory, parseDescriptor(step.descriptor, INTENT));
}

/** A volume held under the ploop tools' own lock, for one change. */
export class LockedVolume {
  readonly directory: string;
  descriptor: Descriptor;
  constructor(directory: string, descriptor: Descriptor) {
    this.directory = directory;
    this.descriptor = descriptor;
  }

  /** Durably notes what a kill from here on would leave behind. */
  async intend(intent: Partial<Intent>): Promise<void> {
    const full: Intent = { files: [], marked: [], ...intent };
    await replaceFile(join(this.directory, INTENT), JSON.stringify(full));
  }

  /** The point at which the change happens; then the files it made superfluous go. */
  async commit(descriptor: Descriptor, superfluous: string[] = []): Promise<void> {
    await writeDescriptor(this.directory, descriptor);
    this.descriptor = descriptor;
    for (const file of superfluous) await removeIfExists(join(this.directory, file));
    await syncDirectory(this.directory);
    await removeIfExists(join(this.directory, INTENT));
  }

  /** Puts a finished image in the place of another together with its descriptor: both or, after a kill, still both. */
  async replaceImage(from: string, to: string, descriptor: Descriptor): Promise<void> {
    const step = { from, to, descriptor: formatDescriptor(descriptor) };
    await this.intend({ redo: step });
    await redo(this.directory, step);
    await removeIfExists(join(this.directory, INTENT));
    this.descriptor = descriptor;
  }

  openChain(
    guid = this.descriptor.topGuid,
    writable: (file: string) => boolean = () => false,
  ): Promise<Chain> {
    return openChain(this.directory, this.descriptor, guid, writable);
  }
}

/** Throws `volume-mounted` when the kernel, or a mark in an image, says that somebody writes to the volume. */
export async function refuseInUse(directory: string, descriptor: Descriptor): Promise<void> {
  const device = await mountedDevice(directory, descriptor);
  if (device)
    throw new StowageError(
      'volume-mounted',
      `the volume is mounted as ${device}; unmount it or use the ploop tool`,
    );
  await refuseMarked(directory, descriptor.images);
}

/** Throws `volume-mounted` when a mark in one of the images says that somebody writes to it. */
export async function refuseMarked(directory: string, images: readonly DescriptorImage[]): Promise<void> {
  for (const image of images) {
    if (image.type === 'Plain') continue;
    await using delta: ExpandedDelta = await openExpanded(join(directory, image.file), 'r');
    if (delta.header.inUse) {
      throw new StowageError(
        'volume-mounted',
        `${image.file} is marked as in use: it is mounted, or was not closed cleanly; 'check --repair' clears the mark`,
      );
    }
  }
}

/**
 * Runs one change of a volume: takes the tools' lock, finishes what an earlier killed change left, refuses a volume
 * that is mounted or marked as in use, then calls `change`.
 */
export async function changeVolume<T>(
  directory: string,
  change: (volume: LockedVolume) => Promise<T>,
): Promise<T> {
  await using _lock = await lockFile(
    join(directory, `${DESCRIPTOR}.lck`),
    `${directory} is locked by another ploop operation`,
  );
  await settle(directory);
  const volume = new LockedVolume(directory, await readDescriptor(directory));
  await refuseInUse(directory, volume.descriptor);
  try {
    return await change(volume);
  } catch (error) {
    await settle(directory).catch(() => undefined);
    throw error;
  }
}

/** Finishes a replacement of the image that was killed: until then what is in its place may be no image. */
export async function finishReplacement(directory: string): Promise<void> {
  if ((await readIntent(directory))?.redo) await settleLeftovers(directory);
}

/** Before a read: what a killed change left must not look like a volume in use. */
export async function settleLeftovers(directory: string): Promise<void> {
  if (!(await exists(join(directory, INTENT)))) return;
  await using _lock = await lockFile(
    join(directory, `${DESCRIPTOR}.lck`),
    `${directory} is locked by another ploop operation`,
  );
  await settle(directory);
}

/** Delta files in the directory that the descriptor does not name. */
export async function orphanDeltas(directory: string, named: string[]): Promise<string[]> {
  const entries = await readdir(directory);
  return entries.filter((entry) => /^root\.hds\.\{[0-9a-f-]+\}$/i.test(entry) && !named.includes(entry));
}
