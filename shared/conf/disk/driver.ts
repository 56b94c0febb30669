import { IMAGE_FORMATS } from '../image-formats.ts';
import type { XmlElement } from '../xml/element.ts';
import { enumAttribute, ON_OFF, unsignedAttribute, unsupported } from '../xml/values.ts';
import type { XmlWriter } from '../xml/write.ts';
import { formatMetadataCache, parseMetadataCache } from './chain.ts';

type OnOff = (typeof ON_OFF)[number];
const CACHE = ['default', 'none', 'writethrough', 'writeback', 'directsync', 'unsafe'] as const;
const ERROR_POLICY = ['stop', 'report', 'ignore', 'enospace'] as const;
const IO = ['native', 'threads', 'io_uring'] as const;
const DISCARD = ['unmap', 'ignore'] as const;
const DETECT_ZEROES = ['off', 'on', 'unmap'] as const;

/** How the hypervisor serves a disk. */
export interface DiskDriver {
  name?: string;
  /** Format of the image. */
  type?: string;
  cache?: Exclude<(typeof CACHE)[number], 'default'>;
  errorPolicy?: (typeof ERROR_POLICY)[number];
  readErrorPolicy?: Exclude<(typeof ERROR_POLICY)[number], 'enospace'>;
  io?: (typeof IO)[number];
  ioeventfd?: OnOff;
  eventIdx?: OnOff;
  copyOnRead?: OnOff;
  discard?: (typeof DISCARD)[number];
  iothread?: number;
  detectZeroes?: (typeof DETECT_ZEROES)[number];
  queues?: number;
  queueSize?: number;
  iommu?: OnOff;
  ats?: OnOff;
  packed?: OnOff;
  pagePerVq?: OnOff;
  metadataCacheBytes?: bigint;
}

function parseType(element: XmlElement): string | undefined {
  const name = element.attributes.get('type');
  if (name === undefined) return undefined;
  // Xen's name of old for raw.
  if (name === 'aio') return 'raw';
  const known = IMAGE_FORMATS.find((format) => format === name);
  if (known === undefined || known === 'none') throw unsupported(`unknown driver format value '${name}'`);
  return known;
}

export function parseDriver(element: XmlElement): DiskDriver {
  const onOff = (name: string): OnOff | undefined => enumAttribute(element, name, ON_OFF);
  const cache = enumAttribute(element, 'cache', CACHE);
  const readErrorPolicy = enumAttribute(element, 'rerror_policy', ERROR_POLICY);
  if (readErrorPolicy === 'enospace') throw unsupported("Invalid disk read error policy: 'enospace'");
  return {
    name: element.attributes.get('name'),
    type: parseType(element),
    cache: cache === 'default' ? undefined : cache,
    errorPolicy: enumAttribute(element, 'error_policy', ERROR_POLICY),
    readErrorPolicy,
    io: enumAttribute(element, 'io', IO),
    ioeventfd: onOff('ioeventfd'),
    eventIdx: onOff('event_idx'),
    copyOnRead: onOff('copy_on_read'),
    discard: enumAttribute(element, 'discard', DISCARD),
    iothread: unsignedAttribute(element, 'iothread', { positive: true }),
    detectZeroes: enumAttribute(element, 'detect_zeroes', DETECT_ZEROES),
    queues: unsignedAttribute(element, 'queues') || undefined,
    queueSize: unsignedAttribute(element, 'queue_size') || undefined,
    iommu: onOff('iommu'),
    ats: onOff('ats'),
    packed: onOff('packed'),
    pagePerVq: onOff('page_per_vq'),
    metadataCacheBytes: parseMetadataCache(element),
  };
}

export function formatDriver(xml: XmlWriter, driver: DiskDriver): void {
  const attributes = {
    name: driver.name,
    type: driver.type,
    cache: driver.cache,
    error_policy: driver.errorPolicy,
    rerror_policy: driver.readErrorPolicy,
    io: driver.io,
    ioeventfd: driver.ioeventfd,
    event_idx: driver.eventIdx,
    copy_on_read: driver.copyOnRead,
    discard: driver.discard,
    iothread: driver.iothread,
    detect_zeroes: driver.detectZeroes,
    queues: driver.queues,
    queue_size: driver.queueSize,
    iommu: driver.iommu,
    ats: driver.ats,
    packed: driver.packed,
    page_per_vq: driver.pagePerVq,
  };
  xml.optional('driver', attributes, () => formatMetadataCache(xml, driver.metadataCacheBytes));
}
