import type { PoolDefinition } from '../conf/pool.ts';
import { isStowageError } from '../util/errors.ts';
import {
  formatVolumeName,
  guestOf,
  type PveContent,
  type PveNaming,
  type PveVolumeName,
  parseVolumeName,
} from './volume-names.ts';

const FILES: readonly PoolDefinition['type'][] = ['dir', 'fs', 'netfs', 'vstorage', 'gluster', 'proxmox'];

/** How Proxmox VE would name the volumes of a pool. Kinds that it does not have are named as thin volumes are. */
export function namingOf({ type, source }: Pick<PoolDefinition, 'type' | 'source'>): PveNaming {
  if (FILES.includes(type) || type === 'btrfs') return 'dir';
  if (type === 'iscsi' || type === 'iscsi-direct') return 'iscsi';
  if (type === 'logical') return source.name?.includes('/') ? 'lvmthin' : 'lvm';
  if (type === 'zfs') return 'zfspool';
  return type === 'rbd' ? 'rbd' : 'lvmthin';
}

/** The format of a linked clone of a base in a pool: an overlay in a file, elsewhere the same. */
export const cloneFormat = ({ type }: Pick<PoolDefinition, 'type'>, format: string): string =>
  FILES.includes(type) ? 'qcow2' : format;

/** The type of the storage that a pool would be in Proxmox VE; that of the pool where it has none such. */
export function typeOf({ type, source }: Pick<PoolDefinition, 'type' | 'source'>): string {
  switch (type) {
    case 'logical':
      return namingOf({ type, source });
    case 'zfs':
      return 'zfspool';
    case 'gluster':
      return 'glusterfs';
    case 'iscsi-direct':
      return 'iscsidirect';
    case 'netfs':
      return source.format === 'cifs' ? 'cifs' : source.format === 'glusterfs' ? 'glusterfs' : 'nfs';
    case 'proxmox':
      return source.format ?? 'dir';
    case 'fs':
    case 'vstorage':
      return 'dir';
    default:
      return type;
  }
}

/** Contents of a directory that lie in directories of their own in Proxmox VE, and beside each other in a pool. */
const CONTENTS: readonly PveContent[] = ['iso', 'backup', 'vztmpl'];

function parsed(naming: PveNaming, volname: string): PveVolumeName | undefined {
  try {
    return parseVolumeName(naming, volname);
  } catch (error) {
    if (!isStowageError(error, 'invalid-name')) throw error;
    return undefined;
  }
}

/** What a name alone tells, where volumes of all contents are side by side. */
function toldByName(name: string): PveVolumeName | undefined {
  const vmid = guestOf(name);
  if (vmid !== undefined) return parsed('dir', `${vmid}/${name}`);
  for (const content of CONTENTS) {
    const found = parsed('dir', `${content}/${name}`);
    if (found) return found;
  }
  return undefined;
}

/** `100:data.raw`, `snippets:user.yaml`: a name that does not tell by itself whose it is has that in front. */
const PREFIXED = /^(\d+|snippets|import|iso|vztmpl|backup):(.+)$/;

/** What a volume of a pool is to Proxmox VE; undefined where it is nothing to it. */
export function pveVolume(naming: PveNaming, name: string): PveVolumeName | undefined {
  if (naming !== 'dir') return parsed(naming, name);
  const [, prefix, rest] = PREFIXED.exec(name) ?? [];
  if (prefix === undefined) return toldByName(name);
  const volume = parsed('dir', `${prefix}/${rest}`);
  return volume && poolNameOf('dir', volume) === name ? volume : undefined;
}

/** The name that a pool has for a volume: {@link pveVolume} of it is the volume, but for the base that it stands on. */
export function poolNameOf(naming: PveNaming, volume: PveVolumeName): string {
  if (naming !== 'dir') return volume.name;
  const { content, name, vmid } = volume;
  const told = toldByName(name);
  if (told?.content === content && told.vmid === vmid) return name;
  return `${content === 'images' ? vmid : content}:${name}`;
}

/** What a copy of a base in a pool is called, and its format: that of a file stays, a device holds the content. */
export function baseNameIn(
  naming: PveNaming,
  { name }: PveVolumeName,
  format: string,
): { name: string; format: 'raw' | 'qcow2' } {
  const bare = name.replace(/\.(?:raw|qcow2)$/, '');
  if (naming !== 'dir') return { name: bare, format: 'raw' };
  const kept = format === 'qcow2' ? 'qcow2' : 'raw';
  return { name: `${bare}.${kept}`, format: kept };
}

/** The base that what stands on it names: the file or the device that the header of an overlay, or the storage, says. */
export function baseNamedIn(backingStore: string | undefined): string | undefined {
  return backingStore === undefined
    ? undefined
    : /(?:^|\/)(base(?:vol)?-\d+-[^/@]+)(?:@[^/]*)?$/.exec(backingStore)?.[1];
}

/** The name by which Proxmox VE knows a volume of a pool, with that of the base that it stands on. */
export function volumeNameOf(naming: PveNaming, volume: PveVolumeName, parent: string | undefined): string {
  const vmid = parent === undefined ? undefined : guestOf(parent);
  const base = parent === undefined || vmid === undefined ? undefined : { name: parent, vmid };
  return formatVolumeName(naming, { ...volume, base });
}
