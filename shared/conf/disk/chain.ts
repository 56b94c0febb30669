import { IMAGE_FORMATS } from '../image-formats.ts';
import type { XmlElement } from '../xml/element.ts';
import { scaledBytes } from '../xml/scaled.ts';
import { unsupported, xmlError } from '../xml/values.ts';
import type { XmlWriter } from '../xml/write.ts';
import {
  type FormatDiskOptions,
  formatStorageSource,
  type ParseDiskOptions,
  parseIndex,
  parseStorageSource,
  SOURCE_TYPES,
  type SourceType,
  type StorageSource,
} from './source.ts';

/** An image that others stand on. */
export interface Layer {
  source: StorageSource;
  format: string;
  metadataCacheBytes?: bigint;
  backing?: BackingChain;
}

/** What an image stands on; `end`: it is known to stand on nothing. */
export type BackingChain = Layer | 'end';

/** Where a running job copies a disk to. */
export interface Mirror extends Omit<Layer, 'format'> {
  format?: string;
  job: 'copy' | 'active-commit';
  /** How far it is: all is mirrored, or it is being given up, or switched to. */
  ready?: 'yes' | 'abort' | 'pivot';
}

/** libvirt's list, without the format that is none. */
const FORMATS = IMAGE_FORMATS.filter((format) => format !== 'none');

function parseType(name: string): SourceType {
  const type = SOURCE_TYPES.find((known) => known === name);
  if (!type) throw xmlError(`unknown storage source type '${name}'`);
  return type;
}

function parseFormat(name: string): string {
  if (!FORMATS.some((known) => known === name)) throw xmlError(`unknown storage source format '${name}'`);
  return name;
}

/** Of `<driver>` and `<format>`. */
export function parseMetadataCache(element: XmlElement | undefined): bigint | undefined {
  const size = element?.one('metadata_cache/max_size');
  return (size && scaledBytes(size)) || undefined;
}

export function formatMetadataCache(xml: XmlWriter, bytes: bigint | undefined): void {
  if (bytes === undefined) return;
  xml.element('metadata_cache', {}, () => xml.leaf('max_size', String(bytes), { unit: 'bytes' }));
}

/** `<backingStore>` of a disk, a mirror or another `<backingStore>`. */
export function parseBacking(parent: XmlElement, options: ParseDiskOptions): BackingChain | undefined {
  const element = parent.one('backingStore');
  if (!element) return undefined;
  const typeName = element.attribute('type');
  if (typeName === undefined) return 'end';
  const format = element.one('format')?.attribute('type');
  if (format === undefined) throw xmlError('missing disk backing store format');
  const source = element.one('source');
  if (!source) throw xmlError('missing disk backing store source');
  const type = parseType(typeName);
  const known = parseFormat(format);
  return {
    source: {
      ...parseStorageSource(source, type),
      index: options.live ? parseIndex(element) : undefined,
    },
    format: known,
    metadataCacheBytes: parseMetadataCache(element.one('format')),
    backing: parseBacking(element, options),
  };
}

export function formatBacking(
  xml: XmlWriter,
  chain: BackingChain | undefined,
  options: FormatDiskOptions,
): void {
  if (chain === undefined) return;
  if (chain === 'end') {
    xml.empty('backingStore');
    return;
  }
  const { source, format, metadataCacheBytes, backing } = chain;
  const index = options.live ? source.index : undefined;
  xml.element('backingStore', { type: source.type, index }, () => {
    xml.optional('format', { type: format }, () => formatMetadataCache(xml, metadataCacheBytes));
    formatStorageSource(xml, source, {}, options);
    formatBacking(xml, backing, options);
  });
}

/** `<mirror>` in the style of today (`type=` and `<source>`) or in that of before (`file=`, `format=`). */
export function parseMirror(element: XmlElement, options: ParseDiskOptions): Mirror {
  const jobName = element.attribute('job');
  if (jobName !== undefined && jobName !== 'copy' && jobName !== 'active-commit')
    throw unsupported(`unknown mirror job type '${jobName}'`);
  const job = jobName ?? 'copy';
  const typeName = element.attribute('type');
  const ready = (): Mirror['ready'] => {
    const state = element.attribute('ready');
    if (state === undefined || state === 'none') return undefined;
    if (state === 'yes' || state === 'abort' || state === 'pivot') return state;
    throw xmlError(`unknown mirror ready state ${state}`);
  };
  if (typeName === undefined) {
    if (job !== 'copy') throw xmlError('mirror without type only supported by copy job');
    const format = element.attribute('format');
    const known = format === undefined ? undefined : parseFormat(format);
    const path = element.attribute('file');
    if (path === undefined) throw xmlError('mirror requires file name');
    return { source: { type: 'file', path, securityLabels: [] }, format: known, job, ready: ready() };
  }
  const type = parseType(typeName);
  const format = element.one('format');
  const name = format?.attribute('type');
  const known = name === undefined ? undefined : parseFormat(name);
  const source = element.one('source');
  if (!source) throw xmlError('mirror requires source element');
  return {
    source: { ...parseStorageSource(source, type), index: parseIndex(source) },
    format: known,
    metadataCacheBytes: parseMetadataCache(format),
    backing: parseBacking(element, options),
    job,
    ready: ready(),
  };
}

/** In the style of today, with the attributes of before where the destination is a file, for older readers. */
export function formatMirror(xml: XmlWriter, mirror: Mirror, options: FormatDiskOptions): void {
  const { source, format, metadataCacheBytes, backing, job, ready } = mirror;
  const legacy = source.type === 'file' && job === 'copy' ? { file: source.path, format } : {};
  xml.element('mirror', { type: source.type, ...legacy, job, ready }, () => {
    if (format !== undefined)
      xml.optional('format', { type: format }, () => formatMetadataCache(xml, metadataCacheBytes));
    formatStorageSource(xml, source, { index: source.index }, options);
    formatBacking(xml, backing, options);
  });
}
