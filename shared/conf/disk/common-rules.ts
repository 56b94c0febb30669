import { SECRET_TYPES } from '../xml/auth.ts';
import { internalError, unsupported, xmlError } from '../xml/values.ts';
import type { Disk } from './disk.ts';
import type { Protocol } from './network-source.ts';
import {
  bus,
  type DiskRule,
  dev,
  type LayerRule,
  layersOf,
  lun,
  plain,
  type RuleContext,
  removable,
} from './rule.ts';
import { isEmptySource, type StorageSource } from './source.ts';

/** What a guest speaks SCSI to: the source of a unit, and what that is copied to. */
function passedThrough(disk: Disk): { source: StorageSource; format?: string }[] {
  if (!lun(disk)) return [];
  return [{ source: disk.source, format: disk.driver.type }, ...(disk.mirror ? [disk.mirror] : [])];
}

const isForeign = ({ network }: StorageSource): boolean =>
  network !== undefined && network.protocol !== 'iscsi';

/** A block device, or what an iSCSI server has. */
function isBlock({ type }: StorageSource, volumeType: RuleContext['volumeType']): boolean {
  // Beyond libvirt, which takes any volume: what it is known to be decides.
  if (type === 'volume') return volumeType === undefined || volumeType === 'block';
  return type === 'block' || type === 'network';
}

/** Limits in total and for one direction exclude each other. */
function bothLimits(family: 'bytes_sec' | 'iops_sec' | 'bytes_sec_max' | 'iops_sec_max'): DiskRule {
  return {
    refuses: ({ iotune }) => {
      const limits = iotune?.limits ?? {};
      const [total, read, write] = (['total', 'read', 'write'] as const).map(
        (scope) => limits[`${scope}_${family}`],
      );
      return total !== undefined && (read !== undefined || write !== undefined);
    },
    error: xmlError,
    message: `total and read/write ${family} cannot be set at the same time`,
  };
}

function virtioOnly(name: 'iommu' | 'ats' | 'packed' | 'pagePerVq', option: string): DiskRule {
  return {
    refuses: (disk) => disk.driver[name] !== undefined && !bus(disk, 'virtio'),
    error: unsupported,
    message: `${option} is only supported for virtio devices`,
  };
}

const WITH_LOGIN: readonly Protocol[] = ['rbd', 'iscsi', 'http', 'https', 'ftp', 'ftps', 'ssh'];
const SECRET_OF: Partial<Record<Protocol, string>> = { iscsi: 'iscsi', rbd: 'ceph' };

const authenticates = ({ network }: StorageSource): boolean =>
  network === undefined || WITH_LOGIN.includes(network.protocol);

const unknownSecret = ({ auth, network }: StorageSource): boolean =>
  network !== undefined && !SECRET_TYPES.includes(auth?.secretType ?? '');

function wrongSecret({ auth, network }: StorageSource): boolean {
  const wanted = network && SECRET_OF[network.protocol];
  return wanted !== undefined && auth?.secretType !== wanted;
}

/** Who may log in to an image, whatever hypervisor reads it. */
export const COMMON_LAYER_RULES: readonly LayerRule[] = [
  {
    refuses: ({ source }) => source.auth !== undefined && !authenticates(source),
    error: unsupported,
    message: ({ source }) => `authentication is not supported for protocol '${source.network?.protocol}'`,
  },
  {
    refuses: ({ source }) => source.auth !== undefined && unknownSecret(source),
    error: unsupported,
    message: ({ source }) => `unknown secret type '${source.auth?.secretType ?? '<null>'}'`,
  },
  {
    refuses: ({ source }) => source.auth !== undefined && wrongSecret(source),
    error: unsupported,
    message: ({ source }) => `invalid secret type '${source.auth?.secretType}'`,
  },
];

/** What is asked before anything else. */
export const ADDRESS_RULES: readonly DiskRule[] = [
  {
    refuses: ({ info }) => info.address?.type === 'unassigned',
    error: unsupported,
    message: "address of type 'unassigned' is supported only for hostdevs",
  },
];

/** What no hypervisor takes, in libvirt's order. */
export const COMMON_RULES: readonly DiskRule[] = [
  {
    refuses: (disk) => disk.sgio === 'unfiltered',
    error: unsupported,
    message: 'unfiltered sgio is no longer supported',
  },
  {
    refuses: (disk) => passedThrough(disk).some(({ source }) => isForeign(source)),
    error: unsupported,
    message: (disk) => {
      const foreign = passedThrough(disk).find(({ source }) => isForeign(source));
      return `disk device='lun' is not supported for protocol='${foreign?.source.network?.protocol}'`;
    },
  },
  {
    refuses: (disk, { volumeType }) =>
      passedThrough(disk).some(
        ({ source }) => !isBlock(source, source === disk.source ? volumeType : undefined),
      ),
    error: unsupported,
    message: "disk device='lun' is only valid for block type disk source",
  },
  {
    refuses: (disk) => passedThrough(disk).some(({ format = 'raw' }) => format !== 'raw'),
    error: unsupported,
    message: "disk device 'lun' must use 'raw' format",
  },
  {
    refuses: (disk) => passedThrough(disk).some(({ source }) => source.slice !== undefined),
    error: unsupported,
    message: "disk device 'lun' doesn't support storage slice",
  },
  {
    refuses: (disk) =>
      passedThrough(disk).some(({ source }) => (source.encryption?.format ?? 'default') !== 'default'),
    error: unsupported,
    message: "disk device 'lun' doesn't support encryption",
  },
  {
    refuses: (disk) => !lun(disk) && disk.source.reservations !== undefined,
    error: unsupported,
    message: '<reservations/> allowed only for lun devices',
  },
  {
    refuses: (disk) => !lun(disk) && disk.rawio !== undefined,
    error: unsupported,
    message: "rawio can be used only with device='lun'",
  },
  {
    refuses: (disk) => !lun(disk) && disk.sgio !== undefined,
    error: unsupported,
    message: "sgio can be used only with device='lun'",
  },
  bothLimits('bytes_sec'),
  bothLimits('iops_sec'),
  bothLimits('bytes_sec_max'),
  bothLimits('iops_sec_max'),
  {
    refuses: ({ info, target }) =>
      info.address !== undefined &&
      info.address.type !== 'drive' &&
      ['ide', 'fdc', 'scsi', 'sata'].includes(target.bus),
    error: unsupported,
    message: ({ info, target }) =>
      `Invalid address type '${info.address?.type}' for the disk '${target.dev}' with the bus type '${target.bus}'`,
  },
  {
    refuses: (disk) => disk.model !== undefined && !bus(disk, 'virtio'),
    error: unsupported,
    message: ({ model, target }) => `disk model '${model}' not supported for bus '${target.bus}'`,
  },
  {
    refuses: (disk) => disk.driver.queues !== undefined && !bus(disk, 'virtio'),
    error: unsupported,
    message: 'queues attribute in disk driver element is only supported by virtio-blk',
  },
  {
    refuses: (disk) => disk.driver.eventIdx !== undefined && !bus(disk, 'virtio'),
    error: unsupported,
    message: 'disk event_idx mode supported only for virtio bus',
  },
  {
    refuses: (disk) => disk.driver.ioeventfd !== undefined && !bus(disk, 'virtio'),
    error: unsupported,
    message: 'disk ioeventfd mode supported only for virtio bus',
  },
  virtioOnly('iommu', 'iommu driver option'),
  virtioOnly('ats', 'ats driver option'),
  virtioOnly('packed', 'packed driver option'),
  virtioOnly('pagePerVq', 'page_per_vq option'),
  {
    refuses: (disk) => layersOf(disk).some(({ source }) => source.nvme?.namespace === 0),
    error: unsupported,
    message: "NVMe namespace can't be zero",
  },
  {
    refuses: (disk) => disk.target.tray === 'open' && !removable(disk),
    error: unsupported,
    message: 'tray is only valid for cdrom and floppy',
  },
  {
    refuses: ({ vendor }) => vendor !== undefined && !/^[ -~]*$/.test(vendor),
    error: xmlError,
    message: 'disk vendor is not printable string',
  },
  {
    refuses: ({ vendor = '' }) => vendor.length > 8,
    error: unsupported,
    message: 'disk vendor is more than 8 characters',
  },
  {
    refuses: ({ product }) => product !== undefined && !/^[ -~]*$/.test(product),
    error: xmlError,
    message: 'disk product is not printable string',
  },
  {
    refuses: ({ product = '' }) => product.length > 16,
    error: unsupported,
    message: 'disk product is more than 16 characters',
  },
  {
    refuses: (disk) => disk.device === 'floppy' && !bus(disk, 'fdc'),
    error: internalError,
    message: ({ target }) => `Invalid bus type '${target.bus}' for floppy disk`,
  },
  {
    refuses: (disk) => disk.device !== 'floppy' && bus(disk, 'fdc'),
    error: internalError,
    message: ({ target }) => `Invalid bus type '${target.bus}' for disk`,
  },
  {
    refuses: (disk) => disk.target.removable !== undefined && !bus(disk, 'usb'),
    error: xmlError,
    message: 'removable is only valid for usb disks',
  },
  {
    refuses: ({ startupPolicy, source }) =>
      startupPolicy !== undefined && !['file', 'block', 'dir', 'volume'].includes(source.type),
    error: xmlError,
    message: ({ startupPolicy, source }) =>
      `disk startupPolicy '${startupPolicy}' is not allowed for disk of '${source.type}' type`,
  },
  {
    refuses: (disk) => disk.startupPolicy === 'requisite' && !removable(disk),
    error: xmlError,
    message: ({ startupPolicy }) =>
      `disk startupPolicy '${startupPolicy}' is allowed only for cdrom or floppy`,
  },
  {
    refuses: ({ wwn }) => wwn !== undefined && !/^(0x)?[0-9a-f]{16}$/i.test(wwn),
    error: internalError,
    message: ({ wwn }) => `Malformed wwn: ${wwn}`,
  },
  {
    refuses: (disk) =>
      disk.device !== 'floppy' && disk.device !== 'cdrom' && !/^(hd|sd|vd|xvd|ubd)/.test(dev(disk)),
    error: internalError,
    message: (disk) => `Invalid harddisk device name: ${dev(disk)}`,
  },
  {
    refuses: (disk) => disk.device === 'floppy' && !dev(disk).startsWith('fd'),
    error: internalError,
    message: (disk) => `Invalid floppy device name: ${dev(disk)}`,
  },
  {
    refuses: (disk) => isEmptySource(disk.source) && disk.device === 'disk',
    error: plain,
    message: (disk) => `missing source information for device ${dev(disk)}`,
  },
];
