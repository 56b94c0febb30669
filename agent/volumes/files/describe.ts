import { type BigIntStats, closeSync, constants, lstatSync, openSync, readSync } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { cut, toStowageError } from '../../../shared/util/errors.ts';
import type { FoundVolume, Known } from '../../backends/backend.ts';
import type { FormatFacts } from '../../formats/format.ts';
import { DIRECTORY_FORMATS, type ImageFormatName, probeFormat } from '../../formats/index.ts';
import { BASE_IMAGE, DESCRIPTOR } from '../../formats/ploop/descriptor.ts';
import { factsOf, parseQcow2Header, qcow2HeadBytes } from '../../formats/qcow2/header.ts';
import { holdDirectory, nameVolume } from './held-directory.ts';

const HEAD_BYTES = 4096;

/** Inode numbers are used again; together with the time of birth they are not. */
export function fingerprintOf(stat: BigIntStats): string {
  return `${stat.ino}:${stat.birthtimeNs}`;
}

function time(ns: bigint): string {
  const [seconds, rest] = [ns / 1_000_000_000n, ns % 1_000_000_000n];
  return rest === 0n ? `${seconds}` : `${seconds}.${String(rest).padStart(9, '0')}`;
}

function common(name: string, path: string, stat: BigIntStats) {
  return {
    name,
    path,
    permissions: { mode: Number(stat.mode) & 0o777, owner: Number(stat.uid), group: Number(stat.gid) },
    timestamps: {
      atime: time(stat.atimeNs),
      mtime: time(stat.mtimeNs),
      ctime: time(stat.ctimeNs),
      btime: stat.birthtimeNs === 0n ? undefined : time(stat.birthtimeNs),
    },
    fingerprint: fingerprintOf(stat),
  };
}

const damaged = (error: unknown, name: string) => ({
  capacityBytes: 0,
  snapshotCount: 0,
  damaged: cut(toStowageError(nameVolume(error, name)).message, 500),
});

/** What changes with anything that a look at a file would tell. */
export function stampOf(stat: BigIntStats): string {
  return `${stat.ctimeNs}.${stat.blocks}`;
}

/** The first bytes of a file; more of them where the name of a backing file lies behind. */
function headOf(path: string, size: bigint): Buffer {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const read = (length: number): Buffer => {
      const head = Buffer.alloc(Math.min(length, Number(size)));
      let done = 0;
      while (done < head.length) {
        const count = readSync(fd, head, done, head.length - done, done);
        if (count === 0) break;
        done += count;
      }
      return head.subarray(0, done);
    };
    const head = read(HEAD_BYTES);
    const needed = qcow2HeadBytes(head);
    return needed > head.length ? read(needed) : head;
  } finally {
    closeSync(fd);
  }
}

function factsOfFile(format: ImageFormatName, size: bigint, head: () => Buffer): FormatFacts {
  if (format === 'raw') return { capacityBytes: Number(size), snapshotCount: 0 };
  return factsOf(parseQcow2Header(head()));
}

/**
 * A regular file as a volume. Its calls are short and synchronous, as thousands of them are much faster so: who looks at
 * many lets others have a turn in between, and storage that may not answer is looked at by a process of its own.
 */
export function describeFile(
  name: string,
  path: string,
  stat: BigIntStats,
  known: Known | undefined,
  local: boolean,
): FoundVolume {
  const fingerprint = fingerprintOf(stat);
  const file = {
    ...common(name, path, stat),
    type: 'file' as const,
    allocationBytes: Number(stat.blocks) * 512,
    mark: stat.mtimeNs.toString(36),
    stamp: stampOf(stat),
  };
  let read: Buffer | undefined;
  const head = (): Buffer => {
    read ??= headOf(path, stat.size);
    return read;
  };
  let format = known?.fingerprint === fingerprint ? known.format : undefined;
  try {
    // What holds no block holds no header either. A remote file system may not know.
    if (!format) format = local && stat.blocks === 0n ? 'raw' : probeFormat(head());
    if (format === 'ploop') format = probeFormat(head());
    return { ...file, format, ...factsOfFile(format, stat.size, head) };
  } catch (error) {
    // Unreadable is still a volume, and no reason to give up the pool. What it is stays open.
    return { ...file, format: format ?? 'unknown', ...damaged(error, name) };
  }
}

/** A directory as a volume; undefined for one that holds no ploop image. */
async function describeDirectory(
  name: string,
  path: string,
  stat: BigIntStats,
): Promise<FoundVolume | undefined> {
  await using held = await holdDirectory(path);
  const entries = await readdir(held.path);
  if (!entries.includes(BASE_IMAGE)) return undefined;
  const base = await lstat(join(held.path, BASE_IMAGE));
  if (!base.isFile()) return undefined;
  let [mtimeNs, ctimeNs, blocks] = [0n, stat.ctimeNs, 0n];
  for (const entry of entries) {
    const part = await lstat(join(held.path, entry), { bigint: true });
    blocks += part.blocks;
    if (part.ctimeNs > ctimeNs) ctimeNs = part.ctimeNs;
    const isImage = entry === DESCRIPTOR || entry.startsWith(BASE_IMAGE);
    if (isImage && part.mtimeNs > mtimeNs) mtimeNs = part.mtimeNs;
  }
  const directory = {
    ...common(name, path, stat),
    type: 'ploop' as const,
    format: 'ploop' as const,
    allocationBytes: Number(blocks) * 512,
    mark: mtimeNs.toString(36),
    stamp: `${ctimeNs}.${blocks}`,
  };
  try {
    return { ...directory, ...(await DIRECTORY_FORMATS.ploop.facts(held.path)) };
  } catch (error) {
    return { ...directory, ...damaged(error, name) };
  }
}

const GONE = new Set(['ENOENT', 'ELOOP', 'ENOTDIR']);

/**
 * What has a name in a pool's directory: a volume; undefined for what is none (links, devices, sockets, other
 * directories), and for what went away meanwhile. Throws for what could not be looked at.
 */
export function describeEntry(
  directory: string,
  name: string,
  known: Known | undefined,
  local: boolean,
): FoundVolume | 'unchanged' | undefined | Promise<FoundVolume | undefined> {
  const path = join(directory, name);
  const stat = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  if (!stat) return undefined;
  if (stat.isFile()) {
    if (
      known?.stamp !== undefined &&
      known.fingerprint === fingerprintOf(stat) &&
      known.stamp === stampOf(stat)
    )
      return 'unchanged';
    return describeFile(name, path, stat, known, local);
  }
  if (!stat.isDirectory()) return undefined;
  return describeDirectory(name, path, stat).catch((error: NodeJS.ErrnoException) => {
    if (GONE.has(error.code ?? '') || error.code === 'path-escapes-pool') return undefined;
    throw error;
  });
}
