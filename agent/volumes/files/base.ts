import type { BigIntStats } from 'node:fs';
import { setImmutable } from '../../host/immutable.ts';
import { FileImage } from '../../images/file-image.ts';

const WRITE_BITS = 0o222;
const OWNER_WRITES = 0o200;

/** Whether the mode of a file says that nobody writes to it. */
export const takesNoWrite = (mode: bigint): boolean => (Number(mode) & WRITE_BITS) === 0;

/**
 * Makes a file one that nobody writes to, or one that its owner does. Where the file system can, root does not write to a base
 * either, until {@link allowRemoval}. `check` throws for a file that is not the one. What says that it is a base is its mode: the last thing that is set, and the first that goes.
 */
export async function setFileBase(
  path: string,
  isBase: boolean,
  check: (stat: BigIntStats) => void = () => {},
): Promise<void> {
  await using image = await FileImage.open(path, 'read');
  const { handle } = image;
  check(await handle.stat({ bigint: true }));
  await setImmutable(handle, false);
  const { mode } = await handle.stat();
  await handle.chmod(isBase ? mode & ~WRITE_BITS & 0o7777 : (mode & 0o7777) | OWNER_WRITES);
  await handle.sync();
  if (isBase) await setImmutable(handle, true);
}

/** Lets a base be renamed and taken away. Its mode says still that it is one. */
export async function allowRemoval(path: string): Promise<void> {
  await using image = await FileImage.open(path, 'read');
  await setImmutable(image.handle, false);
}
