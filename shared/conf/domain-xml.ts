import { clock } from '../util/clock.ts';
import { StowageError } from '../util/errors.ts';
import { type Disk, formatDiskElement, parseDiskElement } from './disk/disk.ts';
import type { FormatDiskOptions } from './disk/source.ts';
import { diskIndex } from './disk/target.ts';
import type { XmlElement } from './xml/element.ts';
import { readXml } from './xml/read.ts';
import { internalError, parseUuid, unsupported, xmlError } from './xml/values.ts';
import { XmlWriter } from './xml/write.ts';

const DOMAIN_TYPES = [
  'none',
  'qemu',
  'kqemu',
  'kvm',
  'xen',
  'lxc',
  'uml',
  'openvz',
  'test',
  'vmware',
  'hyperv',
  'vbox',
  'phyp',
  'parallels',
  'bhyve',
  'vz',
  'hvf',
];

/** A domain as libvirt's document describes it: its disks are known, all else is kept as it was written. */
export interface DomainDocument {
  type: string;
  name: string;
  uuid: string;
  /** Of a running domain. */
  id?: string;
  disks: Disk[];
  /** The document as it was read, from which all but the disks is written again. */
  written: XmlElement;
}

/** Whether QEMU runs domains of this type. */
export function isQemu(type: string): boolean {
  return type === 'qemu' || type === 'kvm' || type === 'hvf';
}

const indexOf = ({ target }: Disk): number => diskIndex(target.dev)?.index ?? -1;

/**
 * Puts disks where libvirt does: by bus, the bus that came first first, and on each by name. A domain that boots from its
 * first disk depends on it.
 */
function arrange(disks: readonly Disk[], busOf: (disk: Disk) => string | undefined): Disk[] {
  return [...Map.groupBy(disks, busOf).values()].flatMap((bus) =>
    bus.toSorted((one, other) => indexOf(one) - indexOf(other)),
  );
}

/** The disks of a domain with one more. */
export function insertDisk(disks: readonly Disk[], added: Disk): Disk[] {
  return arrange([...disks, added], ({ target }) => target.bus);
}

/**
 * Reads a domain document; `live`: as that of a running domain. Throws `invalid-xml` in libvirt's own words. Which of its
 * disks could never start is for `checkDomain`.
 */
export function parseDomain(text: string, form: { live: boolean }): DomainDocument {
  return parseDomainElement(readXml(text, 'domain'), form);
}

/** {@link parseDomain} for an element of a larger document. */
export function parseDomainElement(written: XmlElement, { live }: { live: boolean }): DomainDocument {
  const type = written.attribute('type');
  if (type === undefined) throw internalError('missing domain type attribute');
  if (!DOMAIN_TYPES.includes(type)) throw unsupported(`invalid domain type ${type}`);
  const name = written.textOf('name');
  if (name === undefined) throw new StowageError('invalid-xml', 'missing name information');
  if (name.includes('/')) throw xmlError(`name ${name} cannot contain '/'`);
  const uuid = written.textOf('uuid');
  if (!written.textOf('os/type')) throw xmlError('an os <type> must be specified');
  const id = written.attribute('id');
  const options = { live, narrowScsi: !isQemu(type) };
  const elements = new Map(
    written.all('devices/disk').map((element) => [parseDiskElement(element, options), element]),
  );
  return {
    type,
    name,
    uuid: uuid === undefined ? clock.uuid() : parseUuid(uuid, internalError('malformed uuid element')),
    id: live && id !== undefined && /^\d{1,10}$/.test(id) ? id : undefined,
    // libvirt sorts before it fills in the buses that were not written.
    disks: arrange([...elements.keys()], (disk) => elements.get(disk)?.one('target')?.attribute('bus')),
    written,
  };
}

function formatDevices(
  xml: XmlWriter,
  devices: XmlElement | undefined,
  disks: () => void,
  secure: boolean,
): void {
  const others = devices?.children.filter(({ name }) => name !== 'disk') ?? [];
  xml.element('devices', {}, () => {
    for (const element of others) if (element.name === 'emulator') xml.copy(element);
    disks();
    for (const element of others)
      if (element.name !== 'emulator')
        // The password of a console, as it stands in the document.
        xml.copy(element, element.name === 'graphics' && !secure ? 'passwd' : undefined);
  });
}

/** The document with its disks in libvirt's canonical form; in that of a domain that does not run unless `live`. */
export function formatDomain(domain: DomainDocument, options: FormatDiskOptions): string {
  const { written, disks } = domain;
  const xml = new XmlWriter();
  const attributes = {
    ...Object.fromEntries(written.attributes),
    type: domain.type,
    id: options.live ? domain.id : undefined,
  };
  const formatDisks = (): void => {
    for (const disk of disks) formatDiskElement(xml, disk, options);
  };
  xml.element('domain', attributes, () => {
    for (const element of written.children) {
      if (element.name === 'name') {
        xml.leaf('name', domain.name);
        xml.leaf('uuid', domain.uuid);
      } else if (element.name === 'devices')
        formatDevices(xml, element, formatDisks, options.secure ?? false);
      else if (element.name !== 'uuid') xml.copy(element);
    }
    if (!written.one('devices') && disks.length > 0) formatDevices(xml, undefined, formatDisks, false);
  });
  return xml.toString();
}
