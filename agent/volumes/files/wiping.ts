import type { BigIntStats } from 'node:fs';
import { link, lstat, readdir, realpath, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { WipedPart } from '../../../shared/conf/trash.ts';
import type { WipeAlgorithm } from '../../../shared/conf/wipe-algorithms.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import type { FoundVolume, Identify } from '../../backends/backend.ts';
import { IMAGE_FORMATS, isImageFormat } from '../../formats/index.ts';
import { overwrite, overwritePart } from '../../formats/wipe.ts';
import { syncDirectory } from '../../host/files.ts';
import { isFileOpen } from '../../host/open-files.ts';
import { FileImage } from '../../images/file-image.ts';
import { emptyOf } from '../empty.ts';
import { setFileBase, takesNoWrite } from './base.ts';
import { type FileSystemTraits, fingerprintOf } from './describe.ts';
import type { PrivateDirectory } from './private-directory.ts';

/** Throws for a file that is not the one that is meant. */
type Check = (stat: BigIntStats) => void;

/** Overwrites the data of a raw image in place. Holes stay holes. */
export async function wipeInPlace(
  path: string,
  algorithm: WipeAlgorithm,
  signal?: AbortSignal,
  check: Check = () => {},
): Promise<void> {
  await using image = await FileImage.open(path, 'write');
  check(await image.handle.stat({ bigint: true }));
  await overwrite(image, algorithm, signal);
}

/**
 * Wipes an image with tables: a new empty one takes its place, and only then the old one is overwritten, aside. So the volume
 * is sound at each moment. Until the new one is in place the old one aside has a name that nobody overwrites; afterwards
 * what a cancel or a kill leaves there is overwritten when the pool starts next.
 */
export async function wipeByReplacing(
  traits: FileSystemTraits,
  path: string,
  place: PrivateDirectory,
  volume: FoundVolume,
  algorithm: WipeAlgorithm,
  identify: Identify,
  check: Check,
  signal?: AbortSignal,
): Promise<void> {
  const { name, format, backingStore } = volume;
  if (!isImageFormat(format)) throw new StowageError('volume-damaged', `volume '${name}' cannot be read`);
  if (backingStore)
    throw new StowageError(
      'not-supported',
      'a volume that stands on another one is not wiped: it would show that one',
    );
  if (volume.encryption) {
    await using image = await FileImage.open(path, 'read');
    await IMAGE_FORMATS[format].unlock?.(image, volume.passphrase);
  }
  const { mode, uid, gid } = await lstat(path);
  await using fresh = place.scratch();
  {
    await using image = await FileImage.open(fresh.path, 'create');
    await IMAGE_FORMATS[format].create(image, { ...emptyOf(volume), format }, signal);
    await image.handle.chown(uid, gid);
    await image.handle.chmod(mode & 0o777);
    await image.flush();
  }
  await using aside = place.scratch('trash');
  await link(path, aside.path);
  check(await lstat(aside.path, { bigint: true }));
  await identify(fingerprintOf(await lstat(fresh.path, { bigint: true }), name, traits));
  await rename(fresh.path, path);
  await syncDirectory(dirname(path));
  const doomed = place.doomed();
  await rename(aside.path, doomed.path);
  try {
    await wipeInPlace(doomed.path, algorithm, signal);
    await rm(doomed.path, { force: true });
  } finally {
    doomed[Symbol.dispose]();
  }
}

/**
 * Overwrites a part of a file, or of the files of a directory as if they lay behind each other. Throws `volume-in-use` for a file that
 * another process of the host has open, or that has another name too: a volume may be known by that.
 */
export async function wipePart(path: string, fromBytes: number, mostBytes: number): Promise<WipedPart> {
  const isDirectory = (await lstat(path)).isDirectory();
  const paths = isDirectory ? (await readdir(path)).sort().map((name) => join(path, name)) : [path];
  let [doneBytes, totalBytes, left] = [fromBytes, 0, mostBytes];
  for (const each of paths) {
    const stat = await lstat(each);
    // Links and directories in it are nobody's content.
    if (!stat.isFile()) continue;
    if (await isFileOpen(await realpath(each)))
      throw new StowageError('volume-in-use', 'it is open: a guest may use it, and would find zeros');
    if (stat.nlink > 1)
      throw new StowageError('volume-in-use', `${each} has another name, under which it may be a volume`);
    const begin = totalBytes;
    totalBytes += stat.size;
    if (left <= 0 || doneBytes >= totalBytes) continue;
    // A base takes no write.
    if (takesNoWrite(BigInt(stat.mode))) await setFileBase(each, false);
    await using image = await FileImage.open(each, 'write');
    const next = await overwritePart(image, doneBytes - begin, left);
    left -= begin + next - doneBytes;
    doneBytes = begin + next;
  }
  return { doneBytes, totalBytes };
}

async function finish(path: string, signal: AbortSignal): Promise<void> {
  // Another name of the same file is a volume: it was never replaced.
  if ((await lstat(path)).nlink === 1) await wipeInPlace(path, 'zero', signal);
  await rm(path, { force: true });
}

/** Overwrites what killed or cancelled wipes left aside, one after the other, while the pool works. */
export class Leftovers {
  #stop: AbortController | undefined;
  #done: Promise<void> = Promise.resolve();

  /** Does nothing while an earlier call is at work. What cannot be overwritten now is tried at the next start. */
  begin(place: PrivateDirectory, paths: readonly string[]): void {
    if (this.#stop) return;
    const stop = new AbortController();
    this.#stop = stop;
    const work = async (): Promise<void> => {
      for (const path of paths) {
        if (stop.signal.aborted) return;
        using _claim = place.claim(path);
        await finish(path, stop.signal).catch(() => undefined);
      }
    };
    this.#done = work().finally(() => {
      this.#stop = undefined;
    });
  }

  /** Settles when nothing is being overwritten any more. */
  async end(): Promise<void> {
    this.#stop?.abort(new StowageError('pool-inactive', 'the pool was stopped'));
    await this.#done;
  }
}
