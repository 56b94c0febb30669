import { StowageError } from '../util/errors.ts';

/** The kinds of storage of Proxmox VE, as far as they differ in how they name volumes. */
export type PveNaming = 'dir' | 'lvm' | 'lvmthin' | 'zfspool' | 'rbd' | 'iscsi';

/** What a volume is for, in Proxmox VE's words. */
export type PveContent = 'images' | 'rootdir' | 'iso' | 'vztmpl' | 'backup' | 'snippets' | 'import';

/** The name of a volume within its storage, taken apart. */
export interface PveVolumeName {
  content: PveContent;
  /** The last part: the name that the storage itself has for the volume, but for `import` from inside an archive. */
  name: string;
  /** Of the guest that owns it. */
  vmid?: number;
  /** By its name it is one that linked clones stand on. */
  isBase: boolean;
  /** What a linked clone stands on. */
  base?: { name: string; vmid: number };
  format: string;
}

const STORAGE = /^[a-z][a-z0-9\-_.]*[a-z0-9]$/i;
const VMID = /^[1-9][0-9]{2,8}$/;

const OF_GUEST = /^(?:vm-|base-|subvol-)(\d+)-[^/\s]+\.(raw|qcow2|vmdk|subvol)$/;
const OF_NOBODY = /^[^/\s]+\.(raw|qcow2|vmdk|subvol)$/;
const SNAPSHOT = /^snap-.*\.qcow2$/;
const ISO = /\.(?:iso|img)$/i;
const TEMPLATE = /\.tar(?:\.(?:gz|xz|zst|bz2))?$/i;
const BACKUP = /\.(?:tgz|(?:tar|vma)(?:\.(?:gz|lzo|zst|bz2))?)$/;
const BACKUP_OF = /^vzdump-(?:openvz|lxc|qemu)-(\d+)-.+/;
const IMPORT = /^[\w\-. ]+\.(ova|ovf|qcow2|raw|vmdk)$/;
const IMPORT_INSIDE = /^[\w\-. ]+\.ova\/[\w\-. ]+\.(vmdk|qcow2|raw)$/;

const DEVICE = /^[a-z0-9](?:[a-z0-9\-_.]*[a-z0-9])?$/i;

const refused = (volname: string, why = ''): StowageError =>
  new StowageError(
    'invalid-name',
    `'${volname.slice(0, 100)}' is no name of a volume in Proxmox VE${why && `: ${why}`}`,
  );

/** `STORAGE:VOLNAME`. Throws `invalid-name`. */
export function parseVolumeId(text: string): { storage: string; volname: string } {
  const colon = text.indexOf(':');
  const [storage, volname] = [text.slice(0, Math.max(0, colon)), text.slice(colon + 1)];
  if (!STORAGE.test(storage) || volname === '')
    throw new StowageError('invalid-name', `'${text.slice(0, 100)}' is no volume id, STORAGE:VOLUME`);
  return { storage, volname };
}

/** The number of a guest. Throws `invalid-argument`. */
export function parseVmid(text: string): number {
  if (VMID.test(text)) return Number(text);
  throw new StowageError(
    'invalid-argument',
    `'${text.slice(0, 40)}' is no number of a guest, 100 to 999999999`,
  );
}

/** An image in a directory: its format is the end of its name. */
function imageInDirectory(volname: string, name: string): Pick<PveVolumeName, 'name' | 'isBase' | 'format'> {
  const format = (OF_GUEST.exec(name)?.[2] ?? OF_NOBODY.exec(name)?.[1]) as string | undefined;
  if (SNAPSHOT.test(name)) throw refused(volname, 'a snapshot, not a volume');
  if (format === undefined) throw refused(volname);
  return { name, format, isBase: name.startsWith('base-') };
}

function inDirectory(volname: string): PveVolumeName {
  const [, baseVmid, baseName, vmid, name] = /^(?:(\d+)\/(\S+)\/)?(\d+)\/(\S+)$/.exec(volname) ?? [];
  if (vmid !== undefined) {
    const image = { content: 'images' as const, vmid: Number(vmid), ...imageInDirectory(volname, name!) };
    if (baseName === undefined) return image;
    return { ...image, base: { name: imageInDirectory(volname, baseName).name, vmid: Number(baseVmid) } };
  }
  const [, content = '', rest = ''] = /^(\w+)\/(.+)$/.exec(volname) ?? [];
  const plain = { name: rest, isBase: false, format: 'raw' };
  const isOne = !rest.includes('/');
  if (content === 'iso' && isOne && ISO.test(rest)) return { content, ...plain };
  if (content === 'vztmpl' && isOne && TEMPLATE.test(rest)) return { content, ...plain };
  if (content === 'snippets' && isOne && rest !== '.' && rest !== '..') return { content, ...plain };
  if (content === 'rootdir' && /^\d+$/.test(rest))
    return { content, ...plain, vmid: Number(rest), format: 'subvol' };
  if (content === 'backup' && isOne && BACKUP.test(rest)) {
    const owner = BACKUP_OF.exec(rest)?.[1];
    return { content, ...plain, vmid: owner === undefined ? undefined : Number(owner) };
  }
  if (content === 'import') {
    const inside = IMPORT_INSIDE.exec(rest)?.[1];
    const format = inside ? `ova+${inside}` : IMPORT.exec(rest)?.[1];
    if (format !== undefined) return { content, ...plain, format };
  }
  throw refused(volname);
}

/** Names of storage that is cut into devices: they tell no format, but for qcow2 on LVM. */
const ON_DEVICES: Record<Exclude<PveNaming, 'dir' | 'iscsi'>, RegExp> = {
  lvm: /^(?<name>vm-(?<vmid>\d+)-\S+)$/,
  lvmthin: /^(?<name>(?:vm|base)-(?<vmid>\d+)-\S+)$/,
  zfspool:
    /^(?:(?<base>(?:base|basevol)-(?<baseVmid>\d+)-\S+)\/)?(?<name>(?:base|basevol|vm|subvol)-(?<vmid>\d+)-\S+)$/,
  rbd: /^(?:(?<base>base-(?<baseVmid>\d+)-\S+)\/)?(?<name>(?:base|vm)-(?<vmid>\d+)-\S+)$/,
};

function onDevices(naming: keyof typeof ON_DEVICES, volname: string): PveVolumeName {
  const { name, vmid, base, baseVmid } = ON_DEVICES[naming].exec(volname)?.groups ?? {};
  if (name === undefined || name.includes('/')) throw refused(volname);
  if (naming.startsWith('lvm') && !DEVICE.test(name)) throw refused(volname);
  return {
    content: 'images',
    name,
    vmid: Number(vmid),
    isBase: /^base/.test(name),
    base: base === undefined ? undefined : { name: base, vmid: Number(baseVmid) },
    format: /^(?:subvol|basevol)-/.test(name)
      ? 'subvol'
      : naming === 'lvm' && name.endsWith('.qcow2')
        ? 'qcow2'
        : 'raw',
  };
}

/** Takes the name of a volume apart, as storage of its kind names it. Throws `invalid-name`. */
export function parseVolumeName(naming: PveNaming, volname: string): PveVolumeName {
  if (naming === 'dir') return inDirectory(volname);
  if (naming !== 'iscsi') return onDevices(naming, volname);
  if (!/^\d+\.\d+\.\d+\.\S+$/.test(volname)) throw refused(volname);
  return { content: 'images', name: volname, isBase: false, format: 'raw' };
}

/** The name that {@link parseVolumeName} took apart. */
export function formatVolumeName(naming: PveNaming, { content, name, vmid, base }: PveVolumeName): string {
  if (naming === 'dir') {
    if (content !== 'images') return `${content}/${name}`;
    return base ? `${base.vmid}/${base.name}/${vmid}/${name}` : `${vmid}/${name}`;
  }
  const tellsBase = naming === 'zfspool' || naming === 'rbd';
  return base && tellsBase ? `${base.name}/${name}` : name;
}

/** The guest that an image belongs to by its name, with or without a format at its end; undefined for other names. */
export function guestOf(name: string): number | undefined {
  const [, vmid] = /^(?:vm|base|subvol|basevol)-(\d+)-\S+$/.exec(name) ?? [];
  return vmid !== undefined && VMID.test(vmid) ? Number(vmid) : undefined;
}

/** Which of a guest's disks are named anywhere in a text, such as a path or a list of names. */
export function disksNamedIn(text: string, vmid: number): number[] {
  return [
    ...text.matchAll(new RegExp(`\\b(?:vm|base|subvol|basevol)-${vmid}-disk-(\\d{1,9})(?!\\d)`, 'g')),
  ].map(([, number]) => Number(number));
}

/** The name of a guest's disk. Where names tell the format, it ends with that. */
export function diskName(
  naming: PveNaming,
  { vmid, number, format }: { vmid: number; number: number; format: string },
): string {
  const name = `${format === 'subvol' ? 'subvol' : 'vm'}-${vmid}-disk-${number}`;
  if (naming === 'dir') return `${name}.${format}`;
  return naming === 'lvm' && format === 'qcow2' ? `${name}.qcow2` : name;
}

/** What an image is called once it is a base. Throws `invalid-name` for what is no image of a guest, or a base already. */
export function baseName(name: string): string {
  const [, kind, rest] = /^(vm|subvol)(-\d+-\S+)$/.exec(name) ?? [];
  if (rest === undefined)
    throw refused(
      name,
      /^base/.test(name) ? 'it is a base already' : 'only an image of a guest becomes a base',
    );
  return `${kind === 'vm' ? 'base' : 'basevol'}${rest}`;
}
