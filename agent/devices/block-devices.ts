import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import pLimit from 'p-limit';
import { z } from 'zod';
import { type NodeDevice, type NodeDeviceKind, nodeDeviceKindSchema } from '../../shared/conf/node-device.ts';
import type { DeviceContent } from '../backends/backend.ts';
import { run, runOk } from '../host/run.ts';

const COLUMNS = [
  'NAME',
  'PATH',
  'TYPE',
  'SIZE',
  'MODEL',
  'SERIAL',
  'WWN',
  'TRAN',
  'RO',
  'FSTYPE',
  'PTTYPE',
  'MOUNTPOINTS',
];

const text = z
  .string()
  .nullish()
  .transform((value) => value?.trim() || undefined);

const entrySchema = z.object({
  path: z.string(),
  type: z.string(),
  size: z.number(),
  model: text,
  serial: text,
  wwn: text,
  tran: text,
  ro: z.boolean(),
  fstype: text,
  pttype: text,
  mountpoints: z
    .array(z.string().nullable())
    .default([])
    .transform((all) => all.filter((each) => each !== null)),
  get children(): z.ZodOptional<z.ZodArray<typeof entrySchema>> {
    return z.array(entrySchema).optional();
  },
});
type Entry = z.output<typeof entrySchema>;

const dumpSchema = z.object({ blockdevices: z.array(entrySchema) });

/** Types of lsblk that have another name here; those that are unknown here are left out. */
const KINDS: Record<string, string> = { part: 'partition', mpath: 'multipath', lvm: 'volume' };

const kindOf = (type: string): NodeDeviceKind | undefined =>
  nodeDeviceKindSchema.safeParse(KINDS[type] ?? type).data;

/** A block device, and what is on it as far as that was told. */
export interface BlockDevice extends Omit<NodeDevice, 'poolTypes'> {
  content: DeviceContent;
}

const WORDS: Record<string, string> = {
  LVM2_member: 'a physical volume of LVM',
  zfs_member: 'a part of a zpool',
  mpath_member: 'a path of a multipath device',
  linux_raid_member: 'a part of a RAID',
};

const wordsOf = ({ fstype, pttype }: DeviceContent): string[] => [
  ...(pttype === undefined ? [] : [`a partition table (${pttype})`]),
  ...(fstype === undefined ? [] : [WORDS[fstype] ?? fstype]),
];

function holds(entry: Entry): string | undefined {
  const { mountpoints, children = [], ro } = entry;
  const words = wordsOf(entry);
  if (mountpoints.length > 0) words.push(`mounted at ${mountpoints.join(', ')}`);
  if (ro) words.push('read-only');
  // What something stands on is not empty, whatever its first bytes say.
  const [child] = children;
  if (child && words.length === 0)
    words.push(child.type === 'part' ? 'partitions' : `what ${child.path} stands on`);
  return words.length > 0 ? words.join(', ') : undefined;
}

/** What `lsblk --json --bytes` prints: each device once, parents before what lies on them. Those without a medium are left out. */
export function parseBlockDevices(output: string): BlockDevice[] {
  const found = new Map<string, BlockDevice>();
  const add = (entry: Entry, parent: string | undefined): void => {
    const kind = kindOf(entry.type);
    const { path, size, model, serial, wwn, tran, children = [] } = entry;
    if (kind && size > 0 && !found.has(path)) {
      found.set(path, {
        kind,
        name: path,
        parent,
        sizeBytes: size,
        model,
        serial,
        wwn,
        transport: tran,
        holds: holds(entry),
        content: { fstype: entry.fstype, pttype: entry.pttype },
      });
    }
    for (const child of children) add(child, path);
  };
  for (const entry of dumpSchema.parse(JSON.parse(output)).blockdevices) add(entry, undefined);
  return [...found.values()];
}

/** Devices that are looked at at once: each costs a start of blkid. */
const AT_ONCE = 4;

export async function blockDevices(): Promise<BlockDevice[]> {
  const { stdout } = await runOk('lsblk', ['--json', '--bytes', '--output', COLUMNS.join()]);
  // lsblk tells what udev knows, which is nothing where there is none: that a device is empty its own bytes must say.
  return pLimit(AT_ONCE).map(parseBlockDevices(stdout), async (device) => {
    const { fstype, pttype } = device.content;
    return (fstype ?? pttype) ? device : { ...device, ...(await contentOf(device)) };
  });
}

const canRead = async (path: string): Promise<boolean> => {
  try {
    await using _file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    return true;
  } catch {
    return false;
  }
};

/** By the first bytes of a device. What cannot be told is not empty. */
async function contentOf({ name, holds }: BlockDevice): Promise<Partial<BlockDevice>> {
  const { status, stdout, stderr } = await run('blkid', ['--probe', '--output', 'export', '--', name]);
  // It says nothing, with the same status, of a device that it cannot open.
  const isRead = stderr.trim() === '' && (await canRead(name));
  if (status === 2 && stdout.trim() === '' && isRead) return {};
  const tags = new Map(stdout.split('\n').map((line) => line.split('=') as [string, string]));
  const content = { fstype: tags.get('TYPE'), pttype: tags.get('PTTYPE') };
  const words = wordsOf(content);
  if (status !== 0 || words.length === 0) return { holds: holds ?? 'something that cannot be told' };
  return { content, holds: [...words, ...(holds === undefined ? [] : [holds])].join(', ') };
}
