import { type BigIntStats, closeSync, constants, lstatSync, openSync, readSync } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Permissions } from '../../../shared/conf/permissions.ts';
import { parseQcow2Header, qcow2HeadBytes } from '../../../shared/formats/qcow2/header.ts';
import { vmdkHeadBytes } from '../../../shared/formats/vmdk/descriptor.ts';
import { cut, toStowageError } from '../../../shared/util/errors.ts';
import type { FoundVolume, Known } from '../../backends/backend.ts';
import type { FormatFacts } from '../../formats/format.ts';
import { DIRECTORY_FORMATS, type ImageFormatName, probeFormat } from '../../formats/index.ts';
import { parseLuksHeader } from '../../formats/luks/header.ts';
import { factsOfLuks } from '../../formats/luks/index.ts';
import { BASE_IMAGE, DESCRIPTOR } from '../../formats/ploop/descriptor.ts';
import { factsOf } from '../../formats/qcow2/facts.ts';
import { factsOfVmdk } from '../../formats/vmdk/index.ts';
import { takesNoWrite } from './base.ts';
import { holdDirectory, nameVolume } from './held-directory.ts';
import type { Layout } from './layout.ts';
import { stampOf } from './stamps.ts';

const HEAD_BYTES = 4096;

/** What a look must know of the file system. */
export interface FileSystemTraits {
  /** On a disk of this host: it does not lie about blocks. */
  local: boolean;
  /** By what a file is known again after a mount: under every name by its inode, or by nothing but its name. */
  knownBy: 'inode' | 'name';
  /** Where the volumes lie in it. Absent: side by side. */
  layout?: Layout;
}

/** Inode numbers are used again; together with the time of birth they are not. */
export function fingerprintOf(stat: BigIntStats, name: string, { knownBy }: FileSystemTraits): string {
  return knownBy === 'inode' ? `${stat.ino}:${stat.birthtimeNs}` : `name:${name}`;
}

function time(ns: bigint): string {
  const [seconds, rest] = [ns / 1_000_000_000n, ns % 1_000_000_000n];
  return rest === 0n ? `${seconds}` : `${seconds}.${String(rest).padStart(9, '0')}`;
}

/** Most volumes of a pool have the same owner and mode: they share one object. */
const shared = new Map<string, Permissions>();

function permissionsOf({ mode, uid, gid }: BigIntStats): Permissions {
  const permissions = { mode: Number(mode) & 0o777, owner: Number(uid), group: Number(gid) };
  const key = `${permissions.mode} ${permissions.owner} ${permissions.group}`;
  const known = shared.get(key);
  if (known) return known;
  if (shared.size < 1000) shared.set(key, permissions);
  return permissions;
}

function common(name: string, path: string, stat: BigIntStats, traits: FileSystemTraits) {
  return {
    name,
    path,
    permissions: permissionsOf(stat),
    timestamps: {
      atime: time(stat.atimeNs),
      mtime: time(stat.mtimeNs),
      ctime: time(stat.ctimeNs),
      btime: stat.birthtimeNs === 0n ? undefined : time(stat.birthtimeNs),
    },
    fingerprint: fingerprintOf(stat, name, traits),
  };
}

const damaged = (error: unknown, name: string) => ({
  capacityBytes: 0,
  snapshotCount: 0,
  damaged: cut(toStowageError(nameVolume(error, name)).message, 500),
});

/** The first bytes of a file; more of them where what an image says of other files lies behind. */
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
    const needed = Math.max(qcow2HeadBytes(head), vmdkHeadBytes(head));
    return needed > head.length ? read(needed) : head;
  } finally {
    closeSync(fd);
  }
}

/**
 * Whether a file is a base: one that takes no write, and that was made one. What other hosts made one is not on record here, nor is what
 * Proxmox VE did: there the mode alone says it, or the name.
 */
function isBase(name: string, mode: bigint, known: Known | false, { local }: FileSystemTraits): boolean {
  return takesNoWrite(mode) && ((known && known.isBase === true) || !local || name.startsWith('base-'));
}

function factsOfFile(format: ImageFormatName, size: bigint, head: () => Buffer): FormatFacts {
  if (format === 'raw') return { capacityBytes: Number(size), snapshotCount: 0 };
  if (format === 'luks') return factsOfLuks(parseLuksHeader(head()).payloadOffset, Number(size));
  if (format === 'vmdk') return factsOfVmdk(head());
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
  traits: FileSystemTraits,
): FoundVolume {
  const fingerprint = fingerprintOf(stat, name, traits);
  const file = {
    ...common(name, path, stat, traits),
    type: 'file' as const,
    isBase: isBase(name, stat.mode, known?.fingerprint === fingerprint && known, traits) || undefined,
    allocationBytes: Number(stat.blocks) * 512,
    // Servers may tell whole seconds only, and a kernel's clock for files has steps of milliseconds.
    mark: `${stat.mtimeNs.toString(36)}.${stat.size.toString(36)}`,
    stamp: stampOf(stat),
  };
  let read: Buffer | undefined;
  const head = (): Buffer => {
    read ??= headOf(path, stat.size);
    return read;
  };
  const onRecord = known?.fingerprint === fingerprint ? known.format : undefined;
  let format = traits.layout?.formatOf?.(name) ?? onRecord;
  try {
    // What holds no block holds no header either. A remote file system may not know.
    if (!format) format = traits.local && stat.blocks === 0n ? 'raw' : probeFormat(head());
    if (format === 'ploop') format = probeFormat(head());
    return { ...file, format, ...factsOfFile(format, stat.size, head) };
  } catch (error) {
    // Unreadable is still a volume, and no reason to give up the pool. What it is stays open.
    return { ...file, format: format ?? 'unknown', ...damaged(error, name) };
  }
}

function unlessGone(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}

/** A directory as a volume; undefined for one that holds no ploop image. */
async function describeDirectory(
  name: string,
  path: string,
  stat: BigIntStats,
  traits: FileSystemTraits,
): Promise<FoundVolume | undefined> {
  await using held = await holdDirectory(path);
  const entries = await readdir(held.path);
  if (!entries.includes(BASE_IMAGE)) return undefined;
  const base = await lstat(join(held.path, BASE_IMAGE)).catch(unlessGone);
  if (!base?.isFile()) return undefined;
  let [mtimeNs, ctimeNs, blocks] = [0n, stat.ctimeNs, 0n];
  for (const entry of entries) {
    // Descriptors are replaced by files that are renamed, and locks come and go.
    const part = await lstat(join(held.path, entry), { bigint: true }).catch(unlessGone);
    if (!part) continue;
    blocks += part.blocks;
    if (part.ctimeNs > ctimeNs) ctimeNs = part.ctimeNs;
    const isImage = entry === DESCRIPTOR || entry.startsWith(BASE_IMAGE);
    if (isImage && part.mtimeNs > mtimeNs) mtimeNs = part.mtimeNs;
  }
  const directory = {
    ...common(name, path, stat, traits),
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

const GONE = new Set(['ENOENT', 'ELOOP', 'ENOTDIR', 'path-escapes-pool']);

/**
 * What lies at a path, as the volume of a name: undefined for what is none (links, devices, sockets, other
 * directories), and for what went away meanwhile. What cannot be looked at concerns no other: a volume on record is a damaged
 * one then, anything else is none.
 */
export function describeEntry(
  path: string,
  name: string,
  known: Known | undefined,
  traits: FileSystemTraits,
): FoundVolume | 'unchanged' | undefined | Promise<FoundVolume | undefined> {
  let stat: BigIntStats | undefined;
  try {
    stat = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  } catch (error) {
    return hidden(name, path, known, error);
  }
  if (!stat) return undefined;
  if (stat.isFile()) {
    if (
      known?.stamp !== undefined &&
      known.fingerprint === fingerprintOf(stat, name, traits) &&
      known.stamp === stampOf(stat)
    )
      return 'unchanged';
    return describeFile(name, path, stat, known, traits);
  }
  if (!stat.isDirectory()) return undefined;
  return describeDirectory(name, path, stat, traits).catch((error: NodeJS.ErrnoException) =>
    GONE.has(error.code ?? '') ? undefined : hidden(name, path, known, error),
  );
}

/** A volume that cannot be looked at now, as far as it is known; undefined for a name that is not on record. */
function hidden(
  name: string,
  path: string,
  known: Known | undefined,
  error: unknown,
): FoundVolume | undefined {
  if (!known) return undefined;
  const { fingerprint, format } = known;
  return {
    name,
    path,
    type: format === 'ploop' ? 'ploop' : 'file',
    format: format ?? 'unknown',
    allocationBytes: 0,
    ...damaged(error, name),
    fingerprint,
    mark: 'hidden',
    stamp: 'hidden',
  };
}
