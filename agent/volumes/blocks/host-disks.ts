import { readlink, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { entriesIfExists } from '../../host/files.ts';
import { attributeAt } from '../../host/sysfs.ts';

const SYS_BLOCK = '/sys/class/block';

/** A disk of this host as the kernel lists it. */
export interface HostDisk {
  /** Of the kernel, such as `sdb`; it may be another one's after the next start. */
  kernelName: string;
  sizeBytes: number;
  /** What tells it from every other disk, as it says itself; undefined where it says nothing. */
  wwid?: string;
}

/** undefined where it is gone. */
export async function hostDisk(kernelName: string): Promise<HostDisk | undefined> {
  const sectors = await attributeAt(join(SYS_BLOCK, kernelName, 'size'));
  if (sectors === undefined) return undefined;
  const wwid = await attributeAt(join(SYS_BLOCK, kernelName, 'device/wwid'));
  return { kernelName, sizeBytes: Number(sectors) * 512, wwid: wwid?.replaceAll(/\s+/g, ' ') };
}

/** A unit of a SCSI host: where it is, as `CHANNEL:TARGET:LUN`, and its disk. */
export interface ScsiUnit extends HostDisk {
  address: string;
  lun: number;
}

/** The disks below a SCSI host such as `host3`. */
export async function scsiUnits(host: string): Promise<ScsiUnit[]> {
  const number = host.replace(/^host/, '');
  const found: ScsiUnit[] = [];
  for (const address of await entriesIfExists('/sys/bus/scsi/devices')) {
    const [, of, below = '', lun] = /^(\d+):(\d+:\d+:(\d+))$/.exec(address) ?? [];
    if (of !== number) continue;
    const [kernelName] = await entriesIfExists(join('/sys/bus/scsi/devices', address, 'block'));
    // A tape, an enclosure, or a disk without a medium.
    const disk = kernelName === undefined ? undefined : await hostDisk(kernelName);
    if (disk && disk.sizeBytes > 0) found.push({ ...disk, address: below, lun: Number(lun) });
  }
  return found;
}

/** The name in a directory of udev's, such as `/dev/disk/by-path`, that leads to each disk: the same after every start. */
export async function stablePaths(directory: string): Promise<Map<string, string>> {
  const paths = new Map<string, string>();
  for (const name of (await entriesIfExists(directory)).sort()) {
    const path = join(directory, name);
    // It may have gone meanwhile, or lead to a partition.
    const node = await realpath(path).catch(() => undefined);
    const kernelName = node?.slice('/dev/'.length);
    if (kernelName !== undefined && !paths.has(kernelName) && !/-part\d+$/.test(name))
      paths.set(kernelName, path);
  }
  return paths;
}

/** Multipath devices: their names in /dev/mapper, and what the device-mapper knows them by. */
export async function multipathDevices(): Promise<(HostDisk & { name: string })[]> {
  const found: (HostDisk & { name: string })[] = [];
  for (const kernelName of await entriesIfExists(SYS_BLOCK)) {
    const uuid = kernelName.startsWith('dm-')
      ? await attributeAt(join(SYS_BLOCK, kernelName, 'dm/uuid'))
      : undefined;
    if (!uuid?.startsWith('mpath-')) continue;
    const [disk, name] = [
      await hostDisk(kernelName),
      await attributeAt(join(SYS_BLOCK, kernelName, 'dm/name')),
    ];
    if (disk && name !== undefined) found.push({ ...disk, name, wwid: uuid });
  }
  return found;
}

/** The SCSI host of each iSCSI session, by the name of its target. */
export async function iscsiSessions(): Promise<{ target: string; host: string }[]> {
  const found: { target: string; host: string }[] = [];
  for (const session of await entriesIfExists('/sys/class/iscsi_session')) {
    const directory = join('/sys/class/iscsi_session', session);
    const target = await attributeAt(join(directory, 'targetname'));
    // …/host3/session1/iscsi_session/session1
    const [, host] = /\/(host\d+)\/session\d+\//.exec(await readlink(directory)) ?? [];
    if (target !== undefined && host !== undefined) found.push({ target, host });
  }
  return found;
}
