import type { XmlElement } from '../xml/element.ts';
import {
  enumAttribute,
  internalError,
  requiredAttribute,
  unsignedAttribute,
  unsupported,
  xmlError,
} from '../xml/values.ts';
import type { Attributes, XmlWriter } from '../xml/write.ts';

/** Where a PCI function is on its host or in its guest. */
export interface PciAddress {
  domain: number;
  bus: number;
  slot: number;
  function: number;
}

/** Where a guest sees a device. */
export type DeviceAddress =
  | ({ type: 'pci'; multifunction?: 'on' | 'off' } & Partial<PciAddress>)
  | { type: 'drive'; controller: number; bus: number; target: number; unit: number }
  | { type: 'usb'; bus: number; port?: string }
  | { type: 'ccw'; cssid: number; ssid: number; devno: number }
  | { type: 'virtio-mmio' }
  | { type: 'unassigned' };

/** What any device of a domain may have. */
export interface DeviceInfo {
  boot?: { order: number; loadparm?: string };
  alias?: string;
  acpiIndex?: number;
  address?: DeviceAddress;
}

const hex = (number: number, digits: number): string => `0x${number.toString(16).padStart(digits, '0')}`;

const PCI_PARTS = [
  ['domain', 0xffff, 4],
  ['bus', 0xff, 2],
  ['slot', 0x1f, 2],
  ['function', 7, 1],
] as const;

/** Parts that are absent are 0. */
export function parsePciAddress(element: XmlElement): PciAddress {
  const address = { domain: 0, bus: 0, slot: 0, function: 0 };
  for (const [name] of PCI_PARTS) address[name] = unsignedAttribute(element, name, { hex: true }) ?? 0;
  // Without a place there is nothing to be wrong about.
  if (address.domain + address.bus + address.slot === 0) return { ...address, function: 0 };
  for (const [name, most, digits] of PCI_PARTS) {
    if (address[name] <= most) continue;
    throw xmlError(
      name === 'function'
        ? `Invalid PCI address function=${hex(address[name], 1)}, must be <= 7`
        : `Invalid PCI address ${name}='${hex(address[name], digits)}', must be <= 0x${most.toString(16).toUpperCase()}`,
    );
  }
  return address;
}

/** As `0000:00:05.0`. */
export function pciText({ domain, bus, slot, function: number }: PciAddress): string {
  const digits = (part: number, count: number): string => part.toString(16).padStart(count, '0');
  return `${digits(domain, 4)}:${digits(bus, 2)}:${digits(slot, 2)}.${number}`;
}

export function pciAttributes(address: PciAddress): Attributes {
  return Object.fromEntries(PCI_PARTS.map(([name, , digits]) => [name, hex(address[name], digits)]));
}

/** What is written as `0.0:0:0.0` stands for no address yet: it keeps the type alone. */
function parseAddress(element: XmlElement): DeviceAddress {
  const type = element.attributes.get('type');
  if (type === undefined) throw internalError('No type specified for device address');
  const number = (name: string): number => unsignedAttribute(element, name) ?? 0;
  switch (type) {
    case 'pci': {
      const address = parsePciAddress(element);
      const multifunction = enumAttribute(element, 'multifunction', ['on', 'off'] as const);
      const given = Object.values(address).some((part) => part > 0);
      return given ? { type, ...address, multifunction } : { type, multifunction };
    }
    case 'drive':
      return {
        type,
        controller: number('controller'),
        bus: number('bus'),
        target: number('target'),
        unit: number('unit'),
      };
    case 'usb': {
      const port = element.attribute('port');
      if (port !== undefined && !/^\d{1,3}(\.\d{1,3}){0,3}$/.test(port))
        throw xmlError("Cannot parse <address> 'port' attribute");
      return { type, bus: number('bus'), port };
    }
    case 'ccw':
      return {
        type,
        cssid: unsignedAttribute(element, 'cssid', { hex: true }) ?? 0,
        ssid: unsignedAttribute(element, 'ssid', { hex: true }) ?? 0,
        devno: unsignedAttribute(element, 'devno', { hex: true }) ?? 0,
      };
    case 'virtio-mmio':
    case 'unassigned':
      return { type };
    case 'virtio-s390':
      throw xmlError("virtio-s390 bus doesn't have an address");
    default:
      throw unsupported(`unknown address type '${type}'`);
  }
}

function parseBoot(element: XmlElement): DeviceInfo['boot'] {
  requiredAttribute(element, 'order');
  const order = unsignedAttribute(element, 'order', { positive: true })!;
  return { order, loadparm: element.attribute('loadparm') };
}

/** `live`: names that the hypervisor gave are kept too, not only those of a user (`ua-…`). */
export function parseDeviceInfo(element: XmlElement, live: boolean): DeviceInfo {
  const [boot, alias, acpi, address] = ['boot', 'alias', 'acpi', 'address'].map((name) => element.one(name));
  const name = alias?.attribute('name');
  return {
    boot: boot && parseBoot(boot),
    alias: live || name?.startsWith('ua-') ? name : undefined,
    acpiIndex: (acpi && unsignedAttribute(acpi, 'index')) || undefined,
    address: address && parseAddress(address),
  };
}

function addressAttributes(address: DeviceAddress): Attributes {
  switch (address.type) {
    case 'pci': {
      const { type, multifunction, domain, bus, slot, function: number } = address;
      const given = slot !== undefined;
      const place = given
        ? pciAttributes({ domain: domain ?? 0, bus: bus ?? 0, slot, function: number ?? 0 })
        : {};
      return { type, ...place, multifunction };
    }
    case 'ccw':
      return {
        type: address.type,
        cssid: hex(address.cssid, 1),
        ssid: hex(address.ssid, 1),
        devno: hex(address.devno, 4),
      };
    default:
      return address;
  }
}

/** `live`: as in {@link parseDeviceInfo}. */
export function formatDeviceInfo(
  xml: XmlWriter,
  { boot, alias, acpiIndex, address }: DeviceInfo,
  live: boolean,
): void {
  if (boot) xml.empty('boot', { order: boot.order, loadparm: boot.loadparm });
  if (alias !== undefined && (live || alias.startsWith('ua-'))) xml.empty('alias', { name: alias });
  if (acpiIndex !== undefined) xml.empty('acpi', { index: acpiIndex });
  if (address) xml.empty('address', addressAttributes(address));
}
