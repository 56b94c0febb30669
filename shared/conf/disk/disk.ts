import { StowageError } from '../../util/errors.ts';
import { formatAuth, parseDiskAuth } from '../xml/auth.ts';
import type { XmlElement } from '../xml/element.ts';
import { formatEncryption, parseEncryption } from '../xml/encryption.ts';
import { readXml } from '../xml/read.ts';
import { enumAttribute, ON_OFF, unsignedAttribute, unsupported, xmlError, YES_NO } from '../xml/values.ts';
import { XmlWriter } from '../xml/write.ts';
import {
  type BackingChain,
  formatBacking,
  formatMirror,
  type Mirror,
  parseBacking,
  parseMirror,
} from './chain.ts';
import { type DeviceInfo, formatDeviceInfo, parseDeviceInfo } from './device-info.ts';
import { type DiskDriver, formatDriver, parseDriver } from './driver.ts';
import { formatIotune, type Iotune, parseIotune } from './iotune.ts';
import {
  type FormatDiskOptions,
  formatStorageSource,
  type ParseDiskOptions,
  parseIndex,
  parseStorageSource,
  SOURCE_TYPES,
  type StorageSource,
} from './source.ts';
import { BUSES, type Bus, defaultBus, diskIndex, driveAddress } from './target.ts';

export const DEVICES = ['disk', 'cdrom', 'floppy', 'lun'] as const;
const MODELS = ['virtio', 'virtio-transitional', 'virtio-non-transitional'] as const;
const SNAPSHOTS = ['no', 'internal', 'external', 'manual'] as const;
const STARTUP_POLICIES = ['mandatory', 'requisite', 'optional'] as const;

/** A disk of a domain as libvirt's `<disk>` describes it. */
export interface Disk {
  device: (typeof DEVICES)[number];
  model?: (typeof MODELS)[number];
  rawio?: 'yes' | 'no';
  sgio?: 'filtered' | 'unfiltered';
  snapshot?: (typeof SNAPSHOTS)[number];
  driver: DiskDriver;
  source: StorageSource;
  startupPolicy?: (typeof STARTUP_POLICIES)[number];
  /** Written as children of the disk, as documents of old have them, not of its source. */
  legacyPlaces: { auth: boolean; encryption: boolean };
  backing?: BackingChain;
  backendDomain?: string;
  geometry?: { cylinders: number; heads: number; sectors: number; translation?: 'auto' | 'none' | 'lba' };
  blockio?: { logicalBlockBytes?: number; physicalBlockBytes?: number };
  mirror?: Mirror;
  target: {
    dev: string;
    bus: Bus;
    tray?: 'open' | 'closed';
    removable?: 'on' | 'off';
    rotationRate?: number;
  };
  iotune?: Iotune;
  readonly: boolean;
  shareable: boolean;
  transient?: { shareBacking?: 'yes' | 'no' };
  serial?: string;
  wwn?: string;
  vendor?: string;
  product?: string;
  info: DeviceInfo;
}

// ---- reading ----

function parseGeometry(element: XmlElement): Disk['geometry'] {
  const [cylinders, heads, sectors] = ['cyls', 'heads', 'secs'].map(
    (name) => unsignedAttribute(element, name) ?? 0,
  );
  const translation = enumAttribute(element, 'trans', ['auto', 'none', 'lba'] as const);
  return cylinders && heads && sectors ? { cylinders, heads, sectors, translation } : undefined;
}

function parseBlockio(element: XmlElement): Disk['blockio'] {
  const logicalBlockBytes = unsignedAttribute(element, 'logical_block_size') || undefined;
  const physicalBlockBytes = unsignedAttribute(element, 'physical_block_size') || undefined;
  return logicalBlockBytes || physicalBlockBytes ? { logicalBlockBytes, physicalBlockBytes } : undefined;
}

function parseSource(
  disk: XmlElement,
  element: XmlElement | undefined,
  { live }: ParseDiskOptions,
): StorageSource {
  const type = enumAttribute(disk, 'type', SOURCE_TYPES) ?? 'file';
  // Without a source it is a drive without a medium, of whatever type.
  if (!element) return { type: 'file', securityLabels: [] };
  const source = parseStorageSource(element, type);
  const { network } = source;
  // A target of iSCSI alone stands for its first unit.
  if (network?.protocol === 'iscsi' && network.name && !network.name.includes('/')) network.name += '/0';
  return live ? { ...source, index: parseIndex(element) } : source;
}

/** Login and encryption were children of the disk once, and still may be, in one place only. */
function adoptLegacy(disk: XmlElement, source: StorageSource): Disk['legacyPlaces'] {
  const [auth, encryption] = [disk.one('auth'), disk.one('encryption')];
  if (auth) {
    if (source.auth) throw unsupported('an <auth> definition already found for disk source');
    source.auth = parseDiskAuth(auth);
  }
  if (encryption) {
    if (source.encryption) throw unsupported('an <encryption> definition already found for disk source');
    source.encryption = parseEncryption(encryption);
  }
  return { auth: auth !== undefined, encryption: encryption !== undefined };
}

function missingTarget({ path, network, volume }: StorageSource): StowageError {
  const device = volume
    ? `pool = '${volume.pool}', volume = '${volume.volume}'`
    : (path ?? network?.name ?? '');
  return new StowageError('invalid-xml', `missing target information for device ${device}`.trimEnd());
}

function parseTarget(
  element: XmlElement | undefined,
  device: Disk['device'],
  source: StorageSource,
): Disk['target'] {
  const bus = element && enumAttribute(element, 'bus', BUSES);
  const tray = element && enumAttribute(element, 'tray', ['closed', 'open'] as const);
  const removable = element && enumAttribute(element, 'removable', ON_OFF);
  const rotationRate = (element && unsignedAttribute(element, 'rotation_rate')) || undefined;
  const dev = element?.attribute('dev')?.replace(/^ioemu:/, '');
  if (dev === undefined) throw missingTarget(source);
  return { dev, bus: bus ?? defaultBus(device, dev), tray, removable, rotationRate };
}

/** Disks of virtio, Xen and the like get their addresses from the hypervisor, the others by their name. */
function addressed(info: DeviceInfo, { dev, bus }: Disk['target'], narrowScsi: boolean): DeviceInfo {
  if (info.address) return info;
  const name = diskIndex(dev);
  if (!name) throw xmlError(`Unknown disk name '${dev}' and no address specified`);
  return { ...info, address: driveAddress(bus, name.index, narrowScsi) };
}

/** Reads one `<disk>`; what is missing is defaulted as libvirt does. Throws `invalid-xml` in libvirt's own words. */
export function parseDiskElement(element: XmlElement, options: ParseDiskOptions): Disk {
  const sourceElement = element.one('source');
  const source = parseSource(element, sourceElement, options);
  const device = enumAttribute(element, 'device', DEVICES) ?? 'disk';
  const model = enumAttribute(element, 'model', MODELS);
  const snapshot = enumAttribute(element, 'snapshot', SNAPSHOTS);
  const rawio = enumAttribute(element, 'rawio', YES_NO);
  const sgio = enumAttribute(element, 'sgio', ['filtered', 'unfiltered'] as const);
  const [geometry, blockio, driver, mirror, iotune, transient] = (
    ['geometry', 'blockio', 'driver', 'mirror', 'iotune', 'transient'] as const
  ).map((name) => element.one(name));
  const startupPolicy = sourceElement && enumAttribute(sourceElement, 'startupPolicy', STARTUP_POLICIES);
  const readonly = device === 'cdrom' || element.one('readonly') !== undefined;
  const legacyPlaces = adoptLegacy(element, source);
  const info = parseDeviceInfo(element, options.live);
  const disk = {
    device,
    model,
    rawio,
    sgio,
    driver: driver ? parseDriver(driver) : {},
    source,
    startupPolicy,
    legacyPlaces,
    backing: parseBacking(element, options),
    backendDomain: element.one('backenddomain')?.attribute('name'),
    geometry: geometry && parseGeometry(geometry),
    blockio: blockio && parseBlockio(blockio),
    mirror: options.live && mirror ? parseMirror(mirror, options) : undefined,
    target: parseTarget(element.one('target'), device, source),
    iotune: iotune && parseIotune(iotune),
    readonly,
    shareable: element.one('shareable') !== undefined,
    transient: transient && { shareBacking: enumAttribute(transient, 'shareBacking', YES_NO) },
    serial: element.textOf('serial'),
    wwn: element.textOf('wwn'),
    vendor: element.textOf('vendor'),
    product: element.textOf('product'),
  };
  return {
    ...disk,
    // That no snapshot is taken goes without saying for what is only read.
    snapshot:
      snapshot === 'no' && readonly
        ? undefined
        : (snapshot ?? (source.type === 'vhostuser' ? 'no' : undefined)),
    info: addressed(info, disk.target, options.narrowScsi ?? false),
  };
}

/** {@link parseDiskElement} for a document of one disk. */
export function parseDisk(text: string, options: ParseDiskOptions): Disk {
  return parseDiskElement(readXml(text, 'disk'), options);
}

// ---- writing ----

export function formatDiskElement(xml: XmlWriter, disk: Disk, options: FormatDiskOptions): void {
  const { source, legacyPlaces, geometry, blockio, target, transient } = disk;
  const attributes = {
    type: source.type,
    device: disk.device,
    model: disk.model,
    rawio: disk.rawio,
    sgio: disk.sgio,
    snapshot: disk.snapshot,
  };
  xml.element('disk', attributes, () => {
    formatDriver(xml, disk.driver);
    if (source.auth && legacyPlaces.auth) formatAuth(xml, source.auth);
    const inSource = {
      ...source,
      auth: legacyPlaces.auth ? undefined : source.auth,
      encryption: legacyPlaces.encryption ? undefined : source.encryption,
    };
    const parts = { startupPolicy: disk.startupPolicy, index: options.live ? source.index : undefined };
    formatStorageSource(xml, inSource, parts, options);
    // That a chain ends was seen by the hypervisor: it is no part of what a user configured.
    if (options.live || disk.backing !== 'end') formatBacking(xml, disk.backing, options);
    if (disk.backendDomain !== undefined) xml.empty('backenddomain', { name: disk.backendDomain });
    if (geometry)
      xml.empty('geometry', {
        cyls: geometry.cylinders,
        heads: geometry.heads,
        secs: geometry.sectors,
        trans: geometry.translation,
      });
    if (blockio)
      xml.empty('blockio', {
        logical_block_size: blockio.logicalBlockBytes,
        physical_block_size: blockio.physicalBlockBytes,
      });
    if (disk.mirror && options.live) formatMirror(xml, disk.mirror, options);
    xml.empty('target', {
      dev: target.dev,
      bus: target.bus,
      tray: target.tray === 'open' ? 'open' : undefined,
      removable: target.removable,
      rotation_rate: target.rotationRate,
    });
    if (disk.iotune) formatIotune(xml, disk.iotune);
    if (disk.readonly) xml.empty('readonly');
    if (disk.shareable) xml.empty('shareable');
    if (transient) xml.empty('transient', { shareBacking: transient.shareBacking });
    for (const name of ['serial', 'wwn', 'vendor', 'product'] as const) {
      const value = disk[name];
      if (value !== undefined) xml.leaf(name, value);
    }
    if (source.encryption && legacyPlaces.encryption) formatEncryption(xml, source.encryption);
    formatDeviceInfo(xml, disk.info, options.live);
  });
}

/** The document in libvirt's canonical form, byte for byte. */
export function formatDisk(disk: Disk, options: FormatDiskOptions): string {
  const xml = new XmlWriter();
  formatDiskElement(xml, disk, options);
  return xml.toString();
}
