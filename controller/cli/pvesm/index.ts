import { Command, Option } from 'commander';
import { XML_TYPE } from '../../../shared/conf/xml/write.ts';
import type { FleetVolume } from '../../../shared/protocol/api.ts';
import { namingOf, pveVolume, volumeNameOf } from '../../../shared/pve/images.ts';
import { parseVmid } from '../../../shared/pve/volume-names.ts';
import { StowageError, toStowageError } from '../../../shared/util/errors.ts';
import { parseSize } from '../../../shared/util/units.ts';
import { callJson, callText } from '../client.ts';
import { allocateImage, freeImage, listImages } from '../images.ts';
import { print, printable, show } from '../output.ts';
import { hostPath, volumePath } from '../references.ts';
import { newVolumeNamed, nodeOf, requireAvailable, storage, storagesOf, volumeNamed } from './node.ts';
import { listText, statusText } from './print.ts';
import {
  exportOfStorage,
  exportVolume,
  importToStorage,
  importVolume,
  isSized,
  streamFormat,
} from './streams.ts';

/** Of Proxmox VE 9: a node that sends a volume by `pvesm import` asks which arguments that has. */
const API_VERSION = 12;
/** So many versions before that are understood, too. */
const API_AGE = 3;

/** What pvesm ends with after any error. */
const FAILED = 255;

interface NodeOptions {
  node?: string;
}

/** Does what pvesm would do, and fails as it does: with the words alone, and its one status. */
function asPvesm<A extends unknown[]>(work: (...args: A) => Promise<void>): (...args: A) => Promise<void> {
  return async (...args) => {
    try {
      await work(...args);
    } catch (error) {
      process.stderr.write(`${printable(toStowageError(error).message)}\n`);
      process.exitCode = FAILED;
    }
  };
}

/** KiB where no unit is given. */
const sizeOf = (text: string): number => (/^\d+$/.test(text) ? Number(text) * 1024 : parseSize(text));

async function status({ node, storage: only }: NodeOptions & { storage?: string }): Promise<void> {
  const host = await nodeOf({ node });
  const pools = only === undefined ? await storagesOf(host) : [await storage(host, only)];
  await show(pools, statusText, { isRemark: false });
}

async function list(
  name: string,
  { node, vmid, content }: NodeOptions & { vmid?: string; content?: string },
): Promise<void> {
  const host = await nodeOf({ node });
  requireAvailable(await storage(host, name));
  const images = await listImages({ host, pool: name }, { vmid, content });
  await show(images, listText, { isRemark: false });
}

async function alloc(
  name: string,
  guest: string,
  file: string,
  size: string,
  { node, format }: NodeOptions & { format?: string },
): Promise<void> {
  const host = await nodeOf({ node });
  const naming = namingOf(await storage(host, name));
  const parsed = file === '' ? undefined : pveVolume(naming, file);
  if (file !== '' && !parsed) throw new StowageError('invalid-name', `unable to parse volume name '${file}'`);
  const { volid } = await allocateImage(
    { host, pool: name },
    {
      vmid: parseVmid(guest),
      name: file || undefined,
      format: format ?? parsed?.format,
      sizeBytes: sizeOf(size),
    },
  );
  print(`successfully created '${printable(volid)}'`);
}

async function free(volid: string, { node }: NodeOptions): Promise<void> {
  const reference = await volumeNamed(await nodeOf({ node }), volid);
  await freeImage(reference, { deleteSnapshots: true });
  print(`Removed volume '${printable(volid)}'`);
}

async function path(volid: string, { node }: NodeOptions): Promise<void> {
  const reference = await volumeNamed(await nodeOf({ node }), volid);
  const { path: found } = await callJson<FleetVolume>(volumePath(reference));
  print(printable(found));
}

async function exportTo(
  volid: string,
  format: string,
  file: string,
  {
    node,
    withSnapshots,
    snapshot,
    base,
  }: NodeOptions & { withSnapshots?: string; snapshot?: string; base?: string },
): Promise<void> {
  const wanted = streamFormat(format, withSnapshots === undefined ? undefined : withSnapshots === '1');
  const reference = await volumeNamed(await nodeOf({ node }), volid);
  if (!isSized(wanted))
    return exportOfStorage(reference, wanted, file, { snapshot, base, older: withSnapshots === '1' });
  if (base !== undefined) refuseBase(wanted);
  await exportVolume(reference, wanted, file, snapshot);
}

function refuseBase(format: string): never {
  throw new StowageError('invalid-argument', `a stream of ${format} holds a whole volume: --base is for zfs`);
}

interface ImportOptions {
  allowRename?: string;
  withSnapshots?: string;
  snapshot?: string;
  deleteSnapshot?: string;
  base?: string;
}

async function importFrom(
  volid: string,
  format: string,
  file: string,
  { node, allowRename, withSnapshots, ...snapshots }: NodeOptions & ImportOptions,
): Promise<void> {
  const wanted = streamFormat(format, withSnapshots === undefined ? undefined : withSnapshots === '1');
  const host = await nodeOf({ node });
  const { reference, parsed, pool } = await newVolumeNamed(host, volid);
  const naming = namingOf(pool);
  const imported = ({ name }: FleetVolume): void => {
    const made = pveVolume(naming, name);
    const volname = made ? volumeNameOf(naming, made, undefined) : name;
    print(`successfully imported '${printable(`${pool.name}:${volname}`)}'`);
  };
  if (!isSized(wanted)) {
    const options = { ...snapshots, allowRename: allowRename === '1' };
    return imported(await importToStorage(reference, wanted, file, options));
  }
  if (snapshots.base !== undefined) refuseBase(wanted);
  if (snapshots.snapshot !== undefined || snapshots.deleteSnapshot !== undefined)
    throw new StowageError('invalid-argument', `of a stream of ${wanted} no snapshot is named`);
  const there = await callJson<FleetVolume>(volumePath(reference)).then(
    () => true,
    (error) => {
      if (error.code !== 'volume-not-found') throw error;
      return false;
    },
  );
  // Of the names of a guest the next free one is held by an image that is made first.
  const takeAnother = (there && allowRename === '1' && parsed.vmid) || undefined;
  const made = await importVolume(reference, wanted, parsed.format, file, async (sizeBytes) => {
    if (takeAnother === undefined) return undefined;
    const { format } = parsed;
    const made = await allocateImage({ host, pool: pool.name }, { vmid: takeAnother, format, sizeBytes });
    return { ...reference, volume: made.name };
  });
  imported(made);
}

/** What of a source `pvesm scan` prints, by the kind of storage, and how the pool that uses it is called. */
const SCANS: Record<string, { type: string; needs: string | undefined; prints: string }> = {
  nfs: { type: 'netfs', needs: 'the server', prints: 'dir' },
  iscsi: { type: 'iscsi', needs: 'the portal', prints: 'device' },
  lvm: { type: 'logical', needs: undefined, prints: 'name' },
  zfs: { type: 'zfs', needs: undefined, prints: 'name' },
  glusterfs: { type: 'gluster', needs: 'the server', prints: 'name' },
};

async function scan(kind: string, server: string | undefined, { node }: NodeOptions): Promise<void> {
  const { type, needs, prints } = SCANS[kind]!;
  if (needs !== undefined && server === undefined)
    throw new StowageError('invalid-argument', `scan ${kind} needs ${needs}`);
  const query = server === undefined ? '' : `?sourceHost=${encodeURIComponent(server)}`;
  const found = `${hostPath(await nodeOf({ node }))}/pool-sources/${type}${query}`;
  const { readXml } = await import('../../../shared/conf/xml/read.ts');
  const document = readXml(await callText(found, { accept: XML_TYPE }), 'sources');
  const names = document
    .all('source')
    .flatMap((source) => source.textOf(prints) ?? source.all(prints)[0]?.attribute('path') ?? []);
  for (const name of names) print(printable(name));
}

/** Commands with the arguments and the answers of Proxmox VE's pvesm. A pool is the storage of its name. */
export function pvesmCommand(): Command {
  const pvesm = new Command('pvesm').description("Proxmox VE's pvesm, on the pools of a host");
  const command = (usage: string, description: string): Command =>
    pvesm
      .command(usage)
      .description(description)
      .option('--node <host>', 'the host; STOWAGE_NODE when not given, or the only one');
  command('status', 'the storages, their type, state and size in KiB')
    .option('--storage <name>', 'only this one')
    .action(asPvesm(status));
  command('list <storage>', 'the volumes of a storage')
    .option('--vmid <number>', 'only those of a guest')
    .option('--content <kind>', 'only what is of this kind')
    .action(asPvesm(list));
  command(
    'alloc <storage> <vmid> <filename> <size>',
    'make an image; an empty name takes the next free one, a size is in KiB',
  )
    .option('--format <format>', 'as the name says, else raw')
    .action(asPvesm(alloc));
  command('free <volume>', 'delete a volume with its snapshots').action(asPvesm(free));
  command('path <volume>', 'where a volume is on its host').action(asPvesm(path));
  command(
    'export <volume> <format> <filename>',
    'write a volume as a stream: raw+size, qcow2+size, vmdk+size, zfs, btrfs; - is standard output',
  )
    .addOption(new Option('--with-snapshots <0|1>').choices(['0', '1']))
    .option('--snapshot <name>', 'as it was at this snapshot: raw+size, zfs, btrfs')
    .option('--base <name>', 'only what has changed since this snapshot: zfs')
    .action(asPvesm(exportTo));
  command('import <volume> <format> <filename>', 'make a volume of a stream; - is standard input')
    .addOption(
      new Option('--with-snapshots <0|1>', 'as the format has it when not given').choices(['0', '1']),
    )
    .addOption(
      new Option('--allow-rename <0|1>', 'take the next free name where this one is taken')
        .choices(['0', '1'])
        .default('0'),
    )
    .option('--snapshot <name>', 'the snapshot that a stream of zfs or btrfs must end with')
    .option(
      '--delete-snapshot <name>',
      'of those in a stream of zfs or btrfs, the one that goes once all is there',
    )
    .option(
      '--base <name>',
      'a stream of what has changed since this last snapshot of the volume, which is there: zfs',
    )
    .action(asPvesm(importFrom));
  pvesm
    .command('apiinfo')
    .description('the version of the contract of storages that import and export are of')
    .action(() => print(`APIVER ${API_VERSION}\nAPIAGE ${API_AGE}`));
  const kinds = Object.keys(SCANS);
  command('scan <kind> [server]', `what storages could be made of: ${kinds.join(', ')}`).action(
    asPvesm(async (kind: string, server: string | undefined, options: NodeOptions) => {
      if (!(kind in SCANS))
        throw new StowageError('invalid-argument', `scan knows ${kinds.join(', ')}, not '${kind}'`);
      await scan(kind, server, options);
    }),
  );
  return pvesm;
}
