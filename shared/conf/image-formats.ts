/** Formats of an image, as libvirt knows them. */
export const IMAGE_FORMATS = [
  'none',
  'raw',
  'dir',
  'bochs',
  'cloop',
  'dmg',
  'iso',
  'vpc',
  'vdi',
  'fat',
  'vhd',
  'ploop',
  'cow',
  'qcow',
  'qcow2',
  'qed',
  'vmdk',
] as const;

/** Formats of volumes that can be made. */
export const VOLUME_FORMATS = ['raw', 'qcow2', 'ploop', 'luks', 'vmdk'] as const;

/** Those of disks in files that Proxmox VE has, too. A linked clone may stand on any of them. */
export const DISK_FORMATS = ['raw', 'qcow2', 'vmdk'] as const;
export type DiskFormat = (typeof DISK_FORMATS)[number];
export const isDiskFormat = (format: string): format is DiskFormat =>
  (DISK_FORMATS as readonly string[]).includes(format);

/** Those that a secret can encrypt; luks always is. */
export const ENCRYPTABLE_FORMATS: readonly string[] = ['qcow2', 'luks'];

/** What qcow2 may have from version 1.1 on. */
export const QCOW2_FEATURES = ['lazy_refcounts', 'extended_l2'] as const;
