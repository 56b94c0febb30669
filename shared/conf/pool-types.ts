/** A part of a pool's source that its type has. */
export type SourcePart = 'host' | 'device' | 'dir' | 'adapter' | 'name' | 'initiator' | 'network';

export interface PoolType {
  /** Parts of `<source>` that are required, and the only ones of their kind that are kept. */
  source: readonly SourcePart[];
  /** Formats of the source, in libvirt's order, the first one the default unless told. */
  formats?: readonly string[];
  defaultFormat?: string;
  /** Formats that pools can have here and that libvirt does not know. */
  ownFormats?: readonly string[];
  /** Of ours: libvirt does not know the type. */
  beyondLibvirt?: true;
  /** Has no `<target>`: its volumes are reached over the network. */
  untargeted?: true;
  /** Where the volumes are when the definition does not say, or whatever it says. */
  targetPath?: { of(sourceName: string): string; fixed: boolean };
}

const beside = (directory: string, fixed: boolean) => ({
  of: (name: string) => `${directory}/${name}`,
  fixed,
});

/** The types of libvirt, in the order of its own list, and behind them ours. */
export const POOL_TYPES = {
  dir: { source: [] },
  fs: {
    source: ['device'],
    formats: [
      'auto',
      'ext2',
      'ext3',
      'ext4',
      'ufs',
      'iso9660',
      'udf',
      'gfs',
      'gfs2',
      'vfat',
      'hfs+',
      'xfs',
      'ocfs2',
      'vmfs',
    ],
    ownFormats: ['btrfs'],
  },
  netfs: {
    source: ['host', 'dir'],
    formats: ['auto', 'nfs', 'glusterfs', 'cifs'],
    ownFormats: ['sshfs'],
  },
  logical: {
    source: ['name', 'device'],
    formats: ['unknown', 'lvm2'],
    defaultFormat: 'lvm2',
    targetPath: beside('/dev', true),
  },
  disk: {
    source: ['device'],
    formats: ['unknown', 'dos', 'dvh', 'gpt', 'mac', 'bsd', 'pc98', 'sun', 'lvm2'],
  },
  iscsi: { source: ['host', 'device', 'initiator'] },
  'iscsi-direct': { source: ['host', 'device', 'network', 'initiator'], untargeted: true },
  scsi: { source: ['adapter'] },
  mpath: { source: [] },
  rbd: { source: ['host', 'network', 'name'], untargeted: true },
  sheepdog: { source: ['host', 'network', 'name'], untargeted: true },
  gluster: { source: ['host', 'network', 'name', 'dir'], untargeted: true },
  zfs: { source: ['name', 'device'], targetPath: beside('/dev/zvol', true) },
  vstorage: { source: ['name'] },
  btrfs: { source: [], beyondLibvirt: true },
  proxmox: {
    source: [],
    formats: ['dir', 'nfs', 'cifs', 'cephfs', 'glusterfs'],
    beyondLibvirt: true,
  },
} as const satisfies Record<string, PoolType>;

export type PoolTypeName = keyof typeof POOL_TYPES;

export function isPoolType(name: string | undefined): name is PoolTypeName {
  return name !== undefined && Object.hasOwn(POOL_TYPES, name);
}
