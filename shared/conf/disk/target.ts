import type { DeviceAddress } from './device-info.ts';

export const BUSES = ['ide', 'fdc', 'scsi', 'virtio', 'xen', 'usb', 'uml', 'sata', 'sd'] as const;
export type Bus = (typeof BUSES)[number];

/** The bus that the name of a device stands for, where none is given. */
const BUS_OF_PREFIX: readonly [string, Bus][] = [
  ['hd', 'ide'],
  ['sd', 'scsi'],
  ['vd', 'virtio'],
  ['xvd', 'xen'],
  ['ubd', 'uml'],
];
const PREFIXES = ['fd', 'hd', 'vd', 'sd', 'xvd', 'ubd'];

export function defaultBus(device: string, target: string): Bus {
  if (device === 'floppy') return 'fdc';
  return BUS_OF_PREFIX.find(([prefix]) => target.startsWith(prefix))?.[1] ?? 'ide';
}

/** `sda` is 0, `sdb` is 1, `sdaa` is 26; a partition number is split off. undefined: no name of a disk. */
export function diskIndex(target: string): { index: number; partition?: number } | undefined {
  const prefix = PREFIXES.find((known) => target.startsWith(known));
  const match = prefix === undefined ? null : /^([a-z]{1,6})(\d{0,9})$/.exec(target.slice(prefix.length));
  if (!match) return undefined;
  const [, letters = '', digits = ''] = match;
  let index = 0;
  for (const letter of letters) index = index * 26 + (letter.charCodeAt(0) - 96);
  return { index: index - 1, partition: digits === '' ? undefined : Number(digits) };
}

interface Places {
  /** How many disks one controller takes. */
  disks: number;
  place(at: number): { bus: number; unit: number };
}
const inRow = (at: number) => ({ bus: 0, unit: at });
const PLACES: Partial<Record<Bus, Places>> = {
  ide: { disks: 4, place: (at) => ({ bus: at >> 1, unit: at & 1 }) },
  // Unit 7 is the controller itself.
  scsi: { disks: 15, place: (at) => ({ bus: 0, unit: at < 7 ? at : at + 1 }) },
  sata: { disks: 6, place: inRow },
  fdc: { disks: 2, place: inRow },
};
/** Of hypervisors other than QEMU. */
const NARROW_SCSI: Places = { disks: 7, place: inRow };

/** The address that libvirt gives a disk by its name; undefined on buses whose addresses the hypervisor gives. */
export function driveAddress(bus: Bus, index: number, narrowScsi: boolean): DeviceAddress | undefined {
  const places = bus === 'scsi' && narrowScsi ? NARROW_SCSI : PLACES[bus];
  if (!places) return undefined;
  const controller = Math.floor(index / places.disks);
  const { bus: channel, unit } = places.place(index % places.disks);
  return { type: 'drive', controller, bus: channel, target: 0, unit };
}
