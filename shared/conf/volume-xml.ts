import { sanitizePath } from '../util/paths.ts';
import { IMAGE_FORMATS, QCOW2_FEATURES } from './image-formats.ts';
import type { Permissions } from './permissions.ts';
import type { PoolTypeName } from './pool-types.ts';
import { VOLUME_TYPES, type Volume } from './volume.ts';
import type { XmlElement } from './xml/element.ts';
import { type Encryption, formatEncryption, parseEncryption } from './xml/encryption.ts';
import { formatPermissions, parsePermissions } from './xml/permissions.ts';
import { readXml } from './xml/read.ts';
import { scaledBytes } from './xml/scaled.ts';
import { unsupported, xmlError } from './xml/values.ts';
import { XmlWriter } from './xml/write.ts';

const PARTITION_FORMATS = [
  'none',
  'linux',
  'fat16',
  'fat32',
  'linux-swap',
  'linux-lvm',
  'linux-raid',
  'extended',
] as const;

export interface Formats {
  names: readonly string[];
  /** Of a volume that does not say. */
  default: string;
}
const IMAGES: Formats = { names: IMAGE_FORMATS, default: 'raw' };
/** What the volumes of a pool may be. Pools that are not here hold bare block devices, which have no format. */
export const FORMATS_OF: Partial<Record<PoolTypeName, Formats>> = {
  dir: IMAGES,
  fs: IMAGES,
  netfs: IMAGES,
  gluster: IMAGES,
  vstorage: IMAGES,
  btrfs: IMAGES,
  rbd: IMAGES,
  sheepdog: IMAGES,
  disk: { names: PARTITION_FORMATS, default: 'none' },
};

/** A volume as libvirt's document describes it. Sizes are bytes, up to 2^63 - 1. */
export interface VolumeDocument {
  type: (typeof VOLUME_TYPES)[number];
  name: string;
  /** What identifies it; for most pools its path. */
  key?: string;
  capacityBytes: bigint;
  allocationBytes: bigint;
  target: {
    path?: string;
    format?: string;
    permissions?: Permissions;
    /** Only a host knows them. */
    timestamps?: Volume['timestamps'];
    encryption?: Encryption;
    /** Version of qcow2, such as `1.1`. */
    compat?: string;
    features?: (typeof QCOW2_FEATURES)[number][];
    clusterBytes?: bigint;
    /** No copy on write, where the file system can. */
    nocow?: true;
  };
  backingStore?: { path: string; format?: string; permissions?: Permissions };
}

export interface ParseVolumeOptions {
  /** Type of the pool that the volume is in. */
  pool: PoolTypeName;
  /** `optional`: a volume without one has 0, as one that is made from another may. */
  capacity?: 'optional';
}

function parseFormat(element: XmlElement | undefined, formats: Formats | undefined): string | undefined {
  if (!formats) return undefined;
  const name = element?.attribute('type');
  if (!name) return formats.default;
  if (!formats.names.includes(name)) throw unsupported(`unknown volume format type ${name}`);
  return name;
}

function parseFeatures(element: XmlElement): VolumeDocument['target']['features'] {
  for (const { name } of element.children)
    if (!QCOW2_FEATURES.some((known) => known === name)) throw unsupported(`unsupported feature ${name}`);
  return QCOW2_FEATURES.filter((known) => element.one(known));
}

function parseTarget(
  element: XmlElement | undefined,
  formats: Formats | undefined,
): VolumeDocument['target'] {
  const [permissions, encryption, features, cluster] = (
    ['permissions', 'encryption', 'features', 'clusterSize'] as const
  ).map((name) => element?.one(name));
  const path = element?.textOf('path');
  const compat = element?.textOf('compat');
  if (compat !== undefined && /[^0-9.]/.test(compat))
    throw xmlError("forbidden characters in 'compat' attribute");
  return {
    path: path && sanitizePath(path),
    format: parseFormat(element?.one('format'), formats),
    permissions: permissions && parsePermissions(permissions),
    encryption: encryption && parseEncryption(encryption),
    compat: compat ?? (features ? '1.1' : undefined),
    features: features && parseFeatures(features),
    clusterBytes: cluster && scaledBytes(cluster),
    nocow: element?.one('nocow') && true,
  };
}

/** What is given without a path is no backing store. */
function parseBackingStore(
  element: XmlElement,
  formats: Formats | undefined,
): VolumeDocument['backingStore'] {
  const format = parseFormat(element.one('format'), formats);
  const permissions = element.one('permissions');
  const path = element.textOf('path');
  if (path === undefined) return undefined;
  return { path, format, permissions: permissions && parsePermissions(permissions) };
}

/**
 * Reads a volume document as libvirt does for a pool of the given type: timestamps and extents, which only a host knows,
 * are dropped, what is missing is defaulted. Throws `invalid-xml` with libvirt's own words.
 */
export function parseVolume(text: string, { pool, capacity }: ParseVolumeOptions): VolumeDocument {
  const volume = readXml(text, 'volume');
  const formats = FORMATS_OF[pool];
  const name = volume.textOf('name');
  if (name === undefined) throw xmlError('missing volume name element');
  if (name.includes('/')) throw xmlError(`name ${name} cannot contain '/'`);
  const typeName = volume.attribute('type');
  const type = typeName === undefined ? 'file' : VOLUME_TYPES.find((known) => known === typeName);
  if (!type) throw unsupported(`unknown volume type '${typeName}'`);
  const backing = volume.one('backingStore');
  const [size, allocation] = [volume.one('capacity'), volume.one('allocation')];
  if (!size && capacity !== 'optional') throw xmlError('missing capacity element');
  const capacityBytes = size ? scaledBytes(size) : 0n;
  return {
    type,
    name,
    key: volume.textOf('key'),
    capacityBytes,
    allocationBytes: allocation ? scaledBytes(allocation) : capacityBytes,
    target: parseTarget(volume.one('target'), formats),
    backingStore: backing && parseBackingStore(backing, formats),
  };
}

function formatTimestamps(xml: XmlWriter, times: NonNullable<Volume['timestamps']>): void {
  xml.element('timestamps', {}, () => {
    for (const name of ['atime', 'mtime', 'ctime', 'btime'] as const) {
      const time = times[name];
      if (time !== undefined) xml.leaf(name, time);
    }
  });
}

/** The document in libvirt's canonical form, byte for byte. */
export function formatVolume(volume: VolumeDocument): string {
  const { target, backingStore } = volume;
  const xml = new XmlWriter();
  xml.element('volume', { type: volume.type }, () => {
    xml.leaf('name', volume.name);
    if (volume.key !== undefined) xml.leaf('key', volume.key);
    xml.leaf('capacity', String(volume.capacityBytes), { unit: 'bytes' });
    xml.leaf('allocation', String(volume.allocationBytes), { unit: 'bytes' });
    xml.element('target', {}, () => {
      if (target.path !== undefined) xml.leaf('path', target.path);
      if (target.format !== undefined) xml.empty('format', { type: target.format });
      if (target.permissions) formatPermissions(xml, target.permissions);
      if (target.timestamps) formatTimestamps(xml, target.timestamps);
      if (target.encryption) formatEncryption(xml, target.encryption);
      if (target.compat !== undefined) xml.leaf('compat', target.compat);
      if (target.clusterBytes) xml.leaf('clusterSize', String(target.clusterBytes), { unit: 'B' });
      if (target.features) {
        if (target.features.length === 0) xml.empty('features');
        else
          xml.element('features', {}, () => {
            for (const feature of target.features ?? []) xml.empty(feature);
          });
      }
      if (target.nocow) xml.empty('nocow');
    });
    if (backingStore) {
      xml.element('backingStore', {}, () => {
        xml.leaf('path', backingStore.path);
        if (backingStore.format !== undefined) xml.empty('format', { type: backingStore.format });
        if (backingStore.permissions) formatPermissions(xml, backingStore.permissions);
      });
    }
  });
  return xml.toString();
}
