import { internalError, unsupported } from '../xml/values.ts';
import { IOTUNE_LIMITS } from './iotune.ts';
import { bus, type DiskRule, dev, type LayerRule, layersOf, lun, plain, removable } from './rule.ts';
import { isEmptySource, type StorageSource } from './source.ts';
import { diskIndex } from './target.ts';

const encrypted = ({ encryption }: StorageSource, ...formats: string[]): boolean =>
  encryption !== undefined && formats.includes(encryption.format);

/** What libvirt asks first, of disks that a guest sees as PCI devices. */
export const QEMU_ADDRESS_RULES: readonly DiskRule[] = [
  {
    refuses: ({ info, target }) =>
      target.bus === 'virtio' &&
      info.address !== undefined &&
      !['pci', 'ccw', 'virtio-mmio'].includes(info.address.type),
    error: unsupported,
    message: ({ info }) => `virtio disk cannot have an address of type '${info.address?.type}'`,
  },
];

/** What QEMU cannot do, in libvirt's order. */
export const QEMU_RULES: readonly DiskRule[] = [
  {
    refuses: (disk) => disk.geometry !== undefined && bus(disk, 'usb', 'sd'),
    error: unsupported,
    message: ({ target }) => `CHS geometry can not be set for '${target.bus}' bus`,
  },
  {
    refuses: (disk) => disk.geometry?.translation !== undefined && !bus(disk, 'ide'),
    error: unsupported,
    message: ({ target }) => `CHS translation mode can only be set for 'ide' bus not '${target.bus}'`,
  },
  {
    refuses: (disk) => disk.serial !== undefined && bus(disk, 'sd'),
    error: internalError,
    message: ({ target }) => `Serial property not supported for drive bus '${target.bus}'`,
  },
  {
    refuses: (disk) => removable(disk) && bus(disk, 'virtio', 'sd'),
    error: unsupported,
    message: (disk) => `disk type of '${dev(disk)}' does not support ejectable media`,
  },
  {
    refuses: (disk) => disk.driver.copyOnRead === 'on' && disk.readonly,
    error: unsupported,
    message: (disk) => `copy_on_read is not compatible with read-only disk '${dev(disk)}'`,
  },
  {
    refuses: (disk) => disk.driver.copyOnRead === 'on' && removable(disk),
    error: unsupported,
    message: (disk) => `copy_on_read is not supported with removable disk '${dev(disk)}'`,
  },
  {
    refuses: (disk) => disk.wwn !== undefined && !bus(disk, 'ide', 'scsi'),
    error: unsupported,
    message: 'Only ide and scsi disk support wwn',
  },
  {
    refuses: (disk) => (disk.vendor ?? disk.product) !== undefined && !bus(disk, 'scsi'),
    error: unsupported,
    message: 'Only scsi disk supports vendor and product',
  },
  {
    refuses: (disk) => lun(disk) && !bus(disk, 'virtio', 'scsi'),
    error: unsupported,
    message: ({ target }) => `disk device='lun' is not supported for bus='${target.bus}'`,
  },
  {
    refuses: (disk) => disk.driver.copyOnRead === 'on' && lun(disk),
    error: unsupported,
    message: (disk) => `copy_on_read is not compatible with 'lun' disk '${dev(disk)}'`,
  },
  {
    refuses: (disk) => lun(disk) && disk.wwn !== undefined,
    error: unsupported,
    message: 'Setting wwn is not supported for lun device',
  },
  {
    refuses: (disk) => lun(disk) && (disk.vendor ?? disk.product) !== undefined,
    error: unsupported,
    message: 'Setting vendor or product is not supported for lun device',
  },
  {
    refuses: (disk) => disk.target.rotationRate !== undefined && !bus(disk, 'scsi', 'ide', 'sata'),
    error: internalError,
    message: 'rotation rate is only valid for SCSI/IDE/SATA bus',
  },
  {
    refuses: (disk) => disk.target.rotationRate !== undefined && disk.device !== 'disk',
    error: internalError,
    message: 'rotation rate is only valid for disk device',
  },
  {
    refuses: ({ info, target }) =>
      target.bus === 'usb' && info.address !== undefined && info.address.type !== 'usb',
    error: internalError,
    message: 'unexpected address type for usb disk',
  },
  {
    refuses: (disk) => disk.readonly && disk.device === 'disk' && bus(disk, 'ide', 'sata'),
    error: unsupported,
    message: ({ target }) => `readonly ${target.bus} disks are not supported`,
  },
  {
    refuses: ({ driver }) =>
      driver.io === 'native' && driver.cache !== 'none' && driver.cache !== 'directsync',
    error: unsupported,
    message: "io='native' needs either no disk cache or directsync cache mode",
  },
  {
    refuses: (disk) => lun(disk) && bus(disk, 'scsi') && disk.serial !== undefined,
    error: unsupported,
    message: "scsi-block 'lun' devices do not support the serial property",
  },
  {
    refuses: ({ serial }) => serial !== undefined && !/^[\w\-. +]*$/.test(serial),
    error: internalError,
    message: ({ serial }) => `driver serial '${serial}' contains unsafe characters`,
  },
  {
    refuses: (disk) => disk.driver.iothread !== undefined && !bus(disk, 'virtio'),
    error: unsupported,
    message: ({ target }) => `IOThreads not available for bus ${target.bus} target ${target.dev}`,
  },
  {
    refuses: ({ driver }, { iothreads }) =>
      driver.iothread !== undefined && iothreads !== undefined && !iothreads.has(driver.iothread),
    error: unsupported,
    message: ({ driver }) => `Disk iothread '${driver.iothread}' not defined in iothreadid`,
  },
  {
    refuses: ({ iotune }) => iotune?.groupName !== undefined && Object.keys(iotune.limits).length === 0,
    error: unsupported,
    message: 'group_name can be configured only together with settings',
  },
  {
    refuses: ({ iotune }) => IOTUNE_LIMITS.some((name) => (iotune?.limits[name] ?? 0n) > 10n ** 15n),
    error: (message) => plain(`argument unsupported: ${message}`),
    message: 'block I/O throttle limit must be no more than 1000000000000000 using QEMU',
  },
  {
    refuses: (disk) => disk.transient !== undefined && isEmptySource(disk.source),
    error: unsupported,
    message: (disk) => `transient disk '${dev(disk)}' must not be empty`,
  },
  {
    refuses: (disk) => disk.transient !== undefined && disk.readonly,
    error: unsupported,
    message: (disk) => `transient disk '${dev(disk)}' must not be read-only`,
  },
  {
    refuses: (disk) => disk.transient !== undefined && disk.source.type !== 'file',
    error: unsupported,
    message: (disk) => `transient disk supported only with 'file' type (${dev(disk)})`,
  },
  {
    refuses: (disk) => disk.transient?.shareBacking === 'yes' && !bus(disk, 'virtio', 'scsi', 'usb'),
    error: unsupported,
    // The word is libvirt's.
    message: ({ target }) => `disk bus '${target.bus}' doesn't support transiend disk backing image sharing`,
  },
  {
    refuses: (disk) => disk.shareable && !disk.readonly && layersOf(disk)[0]?.format !== 'raw',
    error: unsupported,
    message: (disk) => `shared access for disk '${dev(disk)}' requires use of supported storage format`,
  },
  {
    refuses: (disk) => disk.driver.name !== undefined && disk.driver.name !== 'qemu',
    error: unsupported,
    message: (disk) => `unsupported driver name '${disk.driver.name}' for disk '${dev(disk)}'`,
  },
  {
    refuses: (disk) => diskIndex(dev(disk))?.partition !== undefined,
    error: unsupported,
    message: (disk) => `invalid disk target '${dev(disk)}', partitions can't appear in disk targets`,
  },
  {
    // Beyond libvirt, which takes a unit of nothing.
    refuses: (disk) => lun(disk) && isEmptySource(disk.source),
    error: plain,
    message: (disk) => `missing source information for device ${dev(disk)}`,
  },
];

/** What it cannot do with any image of a disk. */
export const QEMU_LAYER_RULES: readonly LayerRule[] = [
  {
    refuses: ({ format }) => format === 'dir',
    error: unsupported,
    message: "'directory' storage format is not directly supported by QEMU, use 'dir' disk type instead",
  },
  {
    refuses: ({ source, format }) => format === 'fat' && source.type !== 'dir' && source.type !== 'volume',
    error: unsupported,
    message: "storage format 'fat' is supported only with 'dir' storage type",
  },
  {
    refuses: ({ source, format }) => source.type === 'dir' && format !== 'fat',
    error: unsupported,
    message: "storage type 'dir' requires use of storage format 'fat'",
  },
  {
    refuses: ({ source, format }, disk) => format === 'fat' && source.type === 'dir' && !disk.readonly,
    error: unsupported,
    message: "virtual FAT storage can't be accessed in read-write mode",
  },
  {
    refuses: ({ source: { network } }) => network?.protocol === 'nfs' && network.hosts.length !== 1,
    error: unsupported,
    message: "'nfs' protocol requires the usage of exactly one host",
  },
  {
    refuses: ({ source: { network } }) =>
      network?.protocol === 'nfs' && network.hosts.some(({ transport }) => transport !== 'tcp'),
    error: unsupported,
    message: "'nfs' host must use TCP protocol",
  },
  {
    refuses: ({ source: { network } }) =>
      network?.protocol === 'nfs' &&
      network.hosts.some((host) => host.transport !== 'unix' && host.port !== undefined),
    error: unsupported,
    message: "port cannot be specified in 'nfs' protocol host",
  },
  {
    refuses: ({ format, metadataCacheBytes }) => metadataCacheBytes !== undefined && format !== 'qcow2',
    error: unsupported,
    message: 'metadata cache max size control is supported only with qcow2 images',
  },
  {
    refuses: ({ source }) => encrypted(source, 'qcow', 'default'),
    error: unsupported,
    message: 'old qcow/qcow2 encryption is not supported',
  },
  {
    refuses: ({ source }) => encrypted(source, 'luks2') && source.encryption?.engine !== 'librbd',
    error: unsupported,
    message: 'luks2 is currently not supported by the qemu encryption engine',
  },
  {
    refuses: ({ source }) => source.encryption?.engine === 'librbd' && source.network?.protocol !== 'rbd',
    error: unsupported,
    message: 'librbd encryption is supported only with RBD backed disks',
  },
  {
    refuses: ({ source, format = '' }) =>
      source.encryption !== undefined && !['raw', 'qcow2'].includes(format),
    error: unsupported,
    message: "encryption is supported only with 'raw' and 'qcow2' image format",
  },
  {
    refuses: ({ source: { network } }) => network?.tlsHostname !== undefined && network.protocol !== 'nbd',
    error: unsupported,
    message: "'tlsHostname' field is supported only with NBD disks",
  },
];
