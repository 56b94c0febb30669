import { pciText } from './disk/device-info.ts';
import type { Disk } from './disk/disk.ts';
import type { RuleContext } from './disk/rule.ts';
import { checkDisk } from './disk/rules.ts';
import { type DomainDocument, isQemu } from './domain-xml.ts';
import type { XmlElement } from './xml/element.ts';
import { unsupported, xmlError } from './xml/values.ts';

/** What the `<source pool= volume=>` of a disk really is, where somebody knows. */
export type VolumeResolver = (disk: Disk) => RuleContext['volumeType'];

/** The first two that share a key, the earlier one first. Those without a key share none. */
function firstPair<T>(
  items: readonly T[],
  keyOf: (item: T) => string | undefined,
): [T, T, string] | undefined {
  const seen = new Map<string, T>();
  for (const item of items) {
    const key = keyOf(item);
    if (key === undefined) continue;
    const before = seen.get(key);
    if (before !== undefined) return [before, item, key];
    seen.set(key, item);
  }
  return undefined;
}

const pathOf = (disk: Disk): string => disk.source.path ?? disk.source.network?.name ?? '<null>';

/** Boot order and names are shared with all devices, not only with disks. */
function refuseSharedNames(domain: DomainDocument): void {
  const others = domain.written.one('devices')?.children.filter(({ name }) => name !== 'disk') ?? [];
  const of = (element: string, attribute: string) => (device: XmlElement) =>
    device.one(element)?.attribute(attribute);
  const orders = [
    ...domain.disks.map(({ info }) => info.boot && String(info.boot.order)),
    ...others.map(of('boot', 'order')),
  ];
  const order = firstPair(orders, (found) => found)?.[2];
  if (order !== undefined) throw unsupported(`boot order '${order}' used for more than one device`);
  const aliases = [...domain.disks.map(({ info }) => info.alias), ...others.map(of('alias', 'name'))];
  const alias = firstPair(aliases, (found) => found)?.[2];
  if (alias !== undefined) throw unsupported(`non unique alias detected: ${alias}`);
}

function refuseDuplicates({ disks }: DomainDocument): void {
  const drive = firstPair(disks, ({ info: { address }, target }) =>
    address?.type === 'drive' ? [target.bus, ...Object.values(address)].join(' ') : undefined,
  );
  if (drive) {
    const [{ info, target }] = drive;
    if (info.address?.type !== 'drive') return;
    const { controller, bus, target: number, unit } = info.address;
    throw unsupported(
      `Found duplicate drive address for disk with target name '${target.dev}' controller='${controller}' bus='${bus}' target='${number}' unit='${unit}'`,
    );
  }
  const target = firstPair(disks, (disk) => disk.target.dev);
  if (target)
    throw xmlError(
      `target '${target[2]}' duplicated for disk sources '${pathOf(target[0])}' and '${pathOf(target[1])}'`,
    );
}

function refuseSharedPciSlots({ disks }: DomainDocument): void {
  const shared = firstPair(disks, ({ info: { address } }) =>
    address?.type === 'pci' && address.slot !== undefined
      ? pciText({ domain: 0, bus: 0, function: 0, ...address, slot: address.slot })
      : undefined,
  );
  if (shared) throw xmlError(`Attempted double use of PCI Address ${shared[2]}`);
}

/** Numbers of the threads that serve disks. */
function iothreadsOf({ written }: DomainDocument): ReadonlySet<number> {
  const ids = new Set(written.all('iothreadids/iothread').map((thread) => Number(thread.attribute('id'))));
  const count = Math.min(Number(written.textOf('iothreads') ?? 0), 0xffff);
  for (let id = 1; ids.size < count; id++) ids.add(id);
  return ids;
}

/**
 * Everything that a domain's disks must hold to, for what is saved and for what runs alike, so that nothing is saved that
 * could not start. Throws `invalid-xml` with libvirt's message.
 */
export function checkDomain(domain: DomainDocument, resolve: VolumeResolver = () => undefined): void {
  const qemu = isQemu(domain.type);
  const iothreads = iothreadsOf(domain);
  refuseSharedNames(domain);
  for (const disk of domain.disks) checkDisk(disk, { qemu, iothreads, volumeType: resolve(disk) });
  refuseDuplicates(domain);
  if (qemu) refuseSharedPciSlots(domain);
}
