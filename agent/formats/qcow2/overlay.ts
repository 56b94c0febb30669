import { resolve } from 'node:path';
import type { DiskFormat } from '../../../shared/conf/image-formats.ts';
import { LONGEST_CHAIN } from '../../../shared/formats/qcow2/chain.ts';
import { readQcow2Header } from '../../../shared/formats/qcow2/header.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { runOk } from '../../host/run.ts';
import type { Image } from '../../images/image.ts';
import type { OpenBacking } from '../format.ts';
import { withToolName } from '../qemu-tool.ts';
import { imageOptions } from './options.ts';

/** What an overlay stands on: a path that starts from its own directory, and in which format that is read. */
interface Backing {
  path: string;
  format: DiskFormat;
}

/** Makes a qcow2 image of a new file that holds nothing yet but what it stands on, which is not opened for that. */
export async function createOverlay(
  image: Image,
  capacityBytes: number,
  { path, format }: Backing,
  signal?: AbortSignal,
): Promise<void> {
  // qemu takes what is before a colon for a protocol.
  const relative = path.includes(':') ? `./${path}` : path;
  await withToolName(image, 'change', ({ operand }) =>
    runOk(
      'qemu-img',
      [
        ...['create', '-q', '-u', '-f', 'qcow2', '-o', 'compat=1.1'],
        ...['-b', relative, '-F', format, '--', operand, String(capacityBytes)],
      ],
      { signal },
    ),
  );
  await image.flush();
}

/** Throws `not-supported` where one more image on top would make a chain that is not read here any more. */
export async function refuseLongChain(
  image: Image,
  format: Backing['format'],
  openBacking: OpenBacking,
  depth = 1,
): Promise<void> {
  const { backingStore = undefined } = format === 'qcow2' ? await readQcow2Header(image) : {};
  if (!backingStore) return;
  if (depth >= LONGEST_CHAIN)
    throw new StowageError(
      'not-supported',
      `the base stands on a chain of ${depth} images, the longest that is read here; make a full copy`,
    );
  const path =
    image.directory === undefined ? backingStore.path : resolve(image.directory, backingStore.path);
  await using below = await openBacking({ ...backingStore, path });
  await refuseLongChain(below, backingStore.format === 'qcow2' ? 'qcow2' : 'raw', openBacking, depth + 1);
}

/** Makes a qcow2 image of a new file that holds what another one shows, with all that that stands on, and stands on nothing. */
export async function flatten(source: Image, target: Image, signal?: AbortSignal): Promise<void> {
  const header = await readQcow2Header(source);
  await withToolName(source, 'read', (from) =>
    withToolName(target, 'change', ({ operand }) =>
      runOk(
        'qemu-img',
        ['convert', '-q', '-O', 'qcow2', '--image-opts', imageOptions(from, source, header), operand],
        { signal },
      ),
    ),
  );
  await target.flush();
}
