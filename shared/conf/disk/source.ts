import { StowageError } from '../../util/errors.ts';
import type { Auth } from '../pool-source.ts';
import { formatAuth, parseDiskAuth } from '../xml/auth.ts';
import type { XmlElement } from '../xml/element.ts';
import { type Encryption, formatEncryption, parseEncryption } from '../xml/encryption.ts';
import {
  enumAttribute,
  requiredAttribute,
  unsignedAttribute,
  unsupported,
  xmlError,
  YES_NO,
} from '../xml/values.ts';
import type { Attributes, XmlWriter } from '../xml/write.ts';
import { type PciAddress, parsePciAddress, pciAttributes } from './device-info.ts';
import {
  formatNetworkChildren,
  type NetworkSource,
  networkAttributes,
  parseNetworkSource,
} from './network-source.ts';

/** Kinds of storage that a disk may stand on, in libvirt's order. */
export const SOURCE_TYPES = ['file', 'block', 'dir', 'network', 'volume', 'nvme', 'vhostuser'] as const;
export type SourceType = (typeof SOURCE_TYPES)[number];

/** What a security driver does with an image. */
export interface SecurityLabel {
  model?: string;
  relabel?: 'yes' | 'no';
  label?: string;
}

/** SCSI persistent reservations: by a helper that the hypervisor runs, or by one at a socket. */
export type Reservations = { managed: 'yes'; path?: string } | { managed: 'no'; path: string };

/** One image or device, whatever holds it. */
export interface StorageSource {
  type: SourceType;
  /** Of `file`, `block`, `dir` and the socket of `vhostuser`. */
  path?: string;
  /** Name of file descriptors that were passed to the hypervisor. */
  fdgroup?: string;
  network?: NetworkSource;
  /** `mode`, for iSCSI: by the device on the host, or by the emulator itself. */
  volume?: { pool: string; volume: string; mode?: 'host' | 'direct' };
  nvme?: { namespace: number; managed: 'yes' | 'no'; address: PciAddress };
  /** Of `vhostuser`. */
  reconnect?: { enabled: 'yes' | 'no'; timeoutSeconds?: number };
  /** Number of this image in a running chain. */
  index?: number;
  slice?: { offsetBytes: bigint; sizeBytes: bigint };
  securityLabels: SecurityLabel[];
  auth?: Auth;
  encryption?: Encryption;
  reservations?: Reservations;
}

/** Whether it points at nothing, as the drive without a medium does. */
export function isEmptySource(source: StorageSource): boolean {
  if (source.type === 'network') return source.network === undefined;
  if (source.type === 'volume') return false;
  if (source.type === 'nvme') return source.nvme === undefined;
  return source.path === undefined && source.fdgroup === undefined;
}

/** What a parser is asked for beside the document. */
export interface ParseDiskOptions {
  /** The form of a running domain: mirrors, indices and the hypervisor's own names mean something. */
  live: boolean;
  /** A SCSI controller takes 7 disks, as those of hypervisors other than QEMU do. */
  narrowScsi?: boolean;
}

export interface FormatDiskOptions {
  /** The form of a running domain. */
  live: boolean;
  /** Secrets that stand in the document itself, such as cookies, are written too. */
  secure?: boolean;
}

// ---- reading ----

function parseSlice(element: XmlElement): StorageSource['slice'] {
  const slice = element.all('slices/slice').find((found) => found.attribute('type') === 'storage');
  if (!slice) return undefined;
  const [offset, size] = (['offset', 'size'] as const).map((name) => {
    const value = slice.attribute(name);
    if (value === undefined) throw xmlError('missing offset or size attribute of slice');
    if (!/^\d{1,19}$/.test(value))
      throw xmlError(`malformed value '${value}' of '${name}' attribute of slice`);
    return BigInt(value);
  });
  return { offsetBytes: offset!, sizeBytes: size! };
}

/** Labels that say nothing are left out, as libvirt does. */
function parseSecurityLabels(element: XmlElement): SecurityLabel[] {
  const models = new Set<string>();
  return element.all('seclabel').flatMap((found) => {
    const model = found.attribute('model');
    if (model !== undefined && models.has(model))
      throw new StowageError('invalid-xml', `seclabel for model ${model} is already provided`);
    if (model !== undefined) models.add(model);
    const relabel = enumAttribute(found, 'relabel', YES_NO);
    const label = found.textOf('label');
    return relabel === 'no' || label !== undefined ? [{ model, relabel: relabel ?? 'yes', label }] : [];
  });
}

function parseReservations(element: XmlElement): Reservations {
  requiredAttribute(element, 'managed');
  const managed = enumAttribute(element, 'managed', YES_NO)!;
  const source = element.one('source');
  if (managed === 'yes') return { managed, path: source?.attribute('path') };
  const type = source?.attribute('type');
  if (!type) throw xmlError('missing connection type for <reservations/>');
  if (type !== 'unix') throw xmlError(`unsupported connection type for <reservations/>: ${type}`);
  const path = source?.attribute('path');
  if (!path) throw xmlError('missing path for <reservations/>');
  const mode = source?.attribute('mode');
  if (!mode) throw xmlError('missing connection mode for <reservations/>');
  if (mode !== 'client') throw xmlError(`unsupported connection mode for <reservations/>: ${mode}`);
  return { managed, path };
}

function parseVolumeReference(element: XmlElement): StorageSource['volume'] {
  const [pool, volume, mode] = ['pool', 'volume', 'mode'].map((name) => element.attribute(name));
  // Neither: a drive without a medium.
  if (!pool && !volume) return undefined;
  if (!pool || !volume)
    throw xmlError("'pool' and 'volume' must be specified together for 'pool' type source");
  if (mode !== undefined && mode !== 'host' && mode !== 'direct')
    throw unsupported(`unknown source mode '${mode}' for volume type disk`);
  return { pool, volume, mode };
}

function parseNvme(element: XmlElement): NonNullable<StorageSource['nvme']> {
  const type = element.attribute('type');
  if (type === undefined) throw xmlError("missing 'type' attribute to disk source");
  if (type !== 'pci') throw xmlError(`unsupported source type '${type}'`);
  const namespace = element.attribute('namespace');
  if (namespace === undefined) throw xmlError("missing 'namespace' attribute to disk source");
  if (!/^\d{1,10}$/.test(namespace)) throw xmlError(`malformed namespace '${namespace}'`);
  const managed = enumAttribute(element, 'managed', YES_NO) ?? 'yes';
  const address = element.one('address');
  if (!address) throw xmlError('NVMe disk source is missing address');
  return { namespace: Number(namespace), managed, address: parsePciAddress(address) };
}

function parseVhostUser(element: XmlElement): Pick<StorageSource, 'path' | 'reconnect'> {
  if (element.attribute('type') !== 'unix')
    throw xmlError("invalid 'type' attribute for vhostuser disk source");
  const path = element.attribute('path');
  if (!path) throw xmlError("missing 'path' attribute for vhostuser disk source");
  const reconnect = element.one('reconnect');
  if (!reconnect) return { path };
  requiredAttribute(reconnect, 'enabled');
  const enabled = enumAttribute(reconnect, 'enabled', YES_NO)!;
  if (enabled === 'yes') requiredAttribute(reconnect, 'timeout');
  const timeoutSeconds = unsignedAttribute(reconnect, 'timeout', { positive: true });
  return { path, reconnect: { enabled, timeoutSeconds: enabled === 'yes' ? timeoutSeconds : undefined } };
}

const ATTRIBUTE_OF_PATH = { file: 'file', block: 'dev', dir: 'dir' } as const;

function parseKind(element: XmlElement, type: SourceType): Partial<StorageSource> {
  switch (type) {
    case 'network':
      return { network: parseNetworkSource(element) };
    case 'volume':
      return { volume: parseVolumeReference(element) };
    case 'nvme':
      return { nvme: parseNvme(element) };
    case 'vhostuser':
      return parseVhostUser(element);
    default:
      return {
        path: element.attribute(ATTRIBUTE_OF_PATH[type]),
        fdgroup: type === 'file' ? element.attribute('fdgroup') : undefined,
      };
  }
}

/** The element `<source>` of an image of the given type. */
export function parseStorageSource(element: XmlElement, type: SourceType): StorageSource {
  const kind = parseKind(element, type);
  const [auth, encryption, reservations] = ['auth', 'encryption', 'reservations'].map((name) =>
    element.one(name),
  );
  return {
    type,
    ...kind,
    slice: parseSlice(element),
    securityLabels: type === 'network' ? [] : parseSecurityLabels(element),
    // That of a volume is its pool's.
    auth: auth && type !== 'volume' ? parseDiskAuth(auth) : undefined,
    encryption: encryption && parseEncryption(encryption),
    reservations: reservations && parseReservations(reservations),
  };
}

/** Number of an image in a running chain. */
export function parseIndex(element: XmlElement | undefined): number | undefined {
  const index = element?.attribute('index');
  if (index === undefined) return undefined;
  if (!/^\d{1,10}$/.test(index)) throw xmlError(`invalid disk index '${index}'`);
  return Number(index) || undefined;
}

// ---- writing ----

function attributesOf(source: StorageSource): Attributes {
  switch (source.type) {
    case 'network':
      return source.network ? networkAttributes(source.network) : {};
    case 'volume':
      return { ...source.volume };
    case 'nvme':
      return source.nvme
        ? { type: 'pci', managed: source.nvme.managed, namespace: source.nvme.namespace }
        : {};
    case 'vhostuser':
      return { type: 'unix', path: source.path };
    default:
      return { [ATTRIBUTE_OF_PATH[source.type]]: source.path, fdgroup: source.fdgroup };
  }
}

function formatReservations(xml: XmlWriter, { managed, path }: Reservations): void {
  if (managed === 'yes') xml.empty('reservations', { managed });
  else
    xml.element('reservations', { managed }, () =>
      xml.empty('source', { type: 'unix', path, mode: 'client' }),
    );
}

/** `parts`: attributes beside those of the source itself. Nothing is written where there is nothing to say. */
export function formatStorageSource(
  xml: XmlWriter,
  source: StorageSource,
  parts: Attributes,
  { secure = false }: FormatDiskOptions,
): void {
  const { network, nvme, reconnect, slice, securityLabels, auth, encryption, reservations } = source;
  xml.optional('source', { ...attributesOf(source), ...parts }, () => {
    if (network) formatNetworkChildren(xml, network, secure);
    if (nvme) xml.empty('address', pciAttributes(nvme.address));
    if (reconnect) xml.empty('reconnect', { enabled: reconnect.enabled, timeout: reconnect.timeoutSeconds });
    if (slice) {
      xml.element('slices', {}, () =>
        xml.empty('slice', {
          type: 'storage',
          offset: String(slice.offsetBytes),
          size: String(slice.sizeBytes),
        }),
      );
    }
    for (const { model, relabel, label } of securityLabels) {
      if (label === undefined) xml.empty('seclabel', { model, relabel });
      else xml.element('seclabel', { model, relabel }, () => xml.leaf('label', label));
    }
    if (auth) formatAuth(xml, auth);
    if (encryption) formatEncryption(xml, encryption);
    if (reservations) formatReservations(xml, reservations);
  });
}
