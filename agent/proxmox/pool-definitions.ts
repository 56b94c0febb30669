import { join } from 'node:path';
import { type PoolDefinition, poolDefinitionSchema } from '../../shared/conf/pool.ts';
import { nameSchema } from '../../shared/util/names.ts';
import { isOn, pathOfStorage, type Storage } from './storage-config.ts';

/** A pool of a storage, without the UUID that this host gives it. */
export type StorageDefinition = Omit<PoolDefinition, 'uuid'>;

/** A storage that is no pool here, and why. */
export interface OtherStorage {
  storage: string;
  reason: string;
}

type Source = Partial<PoolDefinition['source']>;
type Parts = { type: string; path?: string; source?: Source; options?: Record<string, string | undefined> };

/** `10.1.1.1:6789 [::1]`, with commas, semicolons or spaces between them. */
function serversOf(text: string | undefined): PoolDefinition['source']['hosts'] {
  return (text?.split(/[,;\s]+/) ?? []).filter(Boolean).map((monitor) => {
    const [, six, name = six ?? monitor, port] =
      /^(?:\[([^\]]+)\]|([^:\s]+))(?::(\d+))?$/.exec(monitor) ?? [];
    return port === undefined ? { name } : { name, port: Number(port) };
  });
}

/** Where something must be mounted; undefined where nothing need be. */
function mountPointOf(id: string, storage: Storage): string | undefined {
  const { is_mountpoint: given } = storage;
  if (given?.startsWith('/')) return given;
  return isOn(given) ? pathOfStorage(id, storage) : undefined;
}

/** What a storage is as a pool; a text says why it is none. `root` is where the files of the host are. */
function partsOf(id: string, storage: Storage, root: string): Parts | string {
  const { type } = storage;
  switch (type) {
    case 'dir':
    case 'nfs':
    case 'cifs':
    case 'cephfs':
    case 'glusterfs':
      return {
        type: 'proxmox',
        path: pathOfStorage(id, storage),
        source: { format: type },
        options: {
          'content-dirs': storage['content-dirs'],
          is_mountpoint: type === 'dir' ? mountPointOf(id, storage) : undefined,
        },
      };
    case 'lvm':
      return { type: 'logical', source: { name: storage.vgname } };
    case 'lvmthin':
      return { type: 'logical', source: { name: `${storage.vgname}/${storage.thinpool}` } };
    case 'zfspool':
      return { type: 'zfs', source: { name: storage.pool } };
    case 'rbd': {
      const pool = storage.pool ?? 'rbd';
      const keyring = join(root, `etc/pve/priv/ceph/${id}.keyring`);
      return {
        type: 'rbd',
        source: {
          name: storage.namespace === undefined ? pool : `${pool}/${storage.namespace}`,
          hosts: serversOf(storage.monhost),
          auth: { type: 'ceph', username: storage.username ?? 'admin', secret: { usage: keyring } },
        },
        // The key stays where Proxmox VE keeps it.
        options: { keyring },
      };
    }
    case 'iscsi':
    case 'iscsidirect':
      return {
        type: type === 'iscsi' ? 'iscsi' : 'iscsi-direct',
        path: type === 'iscsi' ? '/dev/disk/by-path' : undefined,
        source: { hosts: serversOf(storage.portal), devices: [{ path: storage.target ?? '' }] },
      };
    default:
      return `its volumes are not worked on here (storage of type ${type})`;
  }
}

/** Storages that all nodes of a cluster have, whatever else is said. */
const ALWAYS_SHARED = ['nfs', 'cifs', 'cephfs', 'glusterfs', 'rbd', 'iscsi', 'iscsidirect'];

/** Proxmox VE overwrites what it removes of LVM where that is switched on, by default at 10 MiB a second. */
function wipesDeleted({
  type,
  saferemove,
  saferemove_throughput: throughput,
}: Storage): PoolDefinition['wipesDeleted'] {
  if (type !== 'lvm' || !isOn(saferemove)) return undefined;
  // With a minus in front, as cstream(1) takes it.
  const limit = Math.abs(Number(throughput));
  return { limitBytesPerSecond: limit > 0 ? limit : 10 << 20 };
}

/** What storages are for where their configuration does not say it; the others are for images. */
const USUAL_CONTENTS: Partial<Record<string, string[]>> = {
  dir: ['images', 'rootdir'],
  cephfs: ['backup'],
  lvmthin: ['images', 'rootdir'],
  zfspool: ['images', 'rootdir'],
};

function contentsOf({ type, content }: Storage): string[] {
  if (content === undefined) return USUAL_CONTENTS[type] ?? ['images'];
  return content.split(/[,;\s]+/).filter((word) => word !== '' && word !== 'none');
}

/** Whether a storage is one of this node. */
const isHere = ({ disable, nodes }: Storage, node: string): boolean =>
  !isOn(disable) && (nodes === undefined || nodes.split(/[,;\s]+/).includes(node));

/** The storages that a node has, as pools, and those that are none. */
export function definitionsOf(
  storages: ReadonlyMap<string, Storage>,
  node: string,
  root: string,
): { definitions: StorageDefinition[]; others: OtherStorage[] } {
  const definitions: StorageDefinition[] = [];
  const others: OtherStorage[] = [];
  for (const [storage, properties] of storages) {
    // A pool of this agent, which Proxmox VE uses by our plug-in.
    if (!isHere(properties, node) || properties.type === 'stowage') continue;
    const parts = nameSchema.safeParse(storage).success
      ? partsOf(storage, properties, root)
      : 'its name is none that a pool can have';
    if (typeof parts === 'string') {
      others.push({ storage, reason: parts });
      continue;
    }
    const options = Object.entries(parts.options ?? {}).flatMap(([name, value]) =>
      value === undefined ? [] : [{ name, value }],
    );
    const { data, error } = poolDefinitionSchema.omit({ uuid: true }).safeParse({
      name: storage,
      type: parts.type,
      source: { hosts: [], devices: [], ...parts.source },
      target: parts.path === undefined ? {} : { path: parts.path },
      configOptions: options.length > 0 ? options : undefined,
      managedBy: 'proxmox',
      isShared: ALWAYS_SHARED.includes(properties.type) || isOn(properties.shared) || undefined,
      wipesDeleted: wipesDeleted(properties),
      contents: contentsOf(properties),
    });
    if (data) definitions.push(data);
    else others.push({ storage, reason: error.issues[0]?.message ?? 'it is incomplete' });
  }
  return { definitions, others };
}
