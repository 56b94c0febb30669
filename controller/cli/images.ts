import { Command, Option } from 'commander';
import { DISK_FORMATS } from '../../shared/conf/image-formats.ts';
import type { FleetVolume, Image, Job } from '../../shared/protocol/api.ts';
import { IMAGE_CONTENTS } from '../../shared/protocol/lists.ts';
import { parseVmid } from '../../shared/pve/volume-names.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { splitReference } from '../../shared/util/references.ts';
import { formatBytes, parseSize } from '../../shared/util/units.ts';
import { callJson, send } from './client.ts';
import { type Confirmation, confirm, yesOption } from './confirm.ts';
import { type FreeingOptions, freeByJob, freeingOptions } from './freeing.ts';
import { watchJob } from './jobs.ts';
import { bytesColumn, type Listing, type ListOptions, listOptions, showList, timeColumn } from './listing.ts';
import { printable, show } from './output.ts';
import { callPages } from './pages.ts';
import { poolPath, poolReference, type VolumeReference, volumePath, volumeReference } from './references.ts';
import { finish } from './volume-moves.ts';
import { allowUsedOption, usedQuery } from './volume-options.ts';

const referenceOf = ({ host, pool, name }: Image): string => `${host}/${pool}/${name}`;

const IMAGES: Listing<Image> = {
  name: referenceOf,
  columns: [
    { name: 'IMAGE', value: referenceOf },
    { name: 'GUEST', value: ({ vmid }) => vmid },
    { name: 'FORMAT', value: ({ format }) => format },
    bytesColumn('SIZE', ({ sizeBytes }) => sizeBytes),
    bytesColumn('USED', ({ usedBytes }) => usedBytes),
    { name: 'PARENT', value: ({ parent }) => parent },
    { name: 'BASE', value: ({ isBase }) => (isBase ? '*' : undefined) },
    { name: 'PROTECTED', value: ({ isProtected }) => (isProtected ? '*' : undefined), wide: true },
    { name: 'CONTENT', value: ({ content }) => content, wide: true },
    { name: 'VOLID', value: ({ volid }) => volid, wide: true },
    { ...timeColumn<Image>('CREATED', ({ createdAt }) => createdAt), wide: true },
    { name: 'NOTES', value: ({ notes }) => notes, wide: true },
  ],
};

interface ImageListOptions extends ListOptions {
  vmid?: string;
  content?: string;
}

/** Images of the fleet, of a host or of a pool, as the controller lists them. */
export function listImages(
  { host, pool }: { host?: string; pool?: string },
  { vmid, content }: Pick<ImageListOptions, 'vmid' | 'content'>,
): Promise<Image[]> {
  const query = { host, pool, vmid: vmid === undefined ? undefined : parseVmid(vmid), content };
  return callPages('/images', query, referenceOf);
}

const imagesPath = (place: { host: string; pool: string }): string => `${poolPath(place)}/images`;
const imagePath = ({ volume, ...place }: VolumeReference): string =>
  `${imagesPath(place)}/${encodeURIComponent(volume)}`;

/** Makes an image of so many bytes. */
export function allocateImage(
  place: { host: string; pool: string },
  json: { vmid: number; name?: string; format?: string; sizeBytes: number },
): Promise<Image> {
  return callJson<Image>(imagesPath(place), { method: 'POST', json });
}

export function freeImage(
  place: VolumeReference,
  options: { deleteSnapshots?: boolean; allowUsed?: boolean },
): Promise<void> {
  const query = new URLSearchParams(options.allowUsed ? { allowUsed: 'true' } : {});
  if (options.deleteSnapshots) query.set('deleteSnapshots', 'true');
  return send(`${imagePath(place)}?${query}`, { method: 'DELETE' });
}

interface FreeOptions extends Confirmation, FreeingOptions {
  deleteSnapshots?: boolean;
  allowUsed?: boolean;
}

interface BaseCopy {
  volume?: FleetVolume;
  job?: Job;
}

interface CloneOptions {
  snapshot?: string;
  to?: string;
  baseName?: string;
}

/** The base itself, or its copy in another pool, which is made when it is not there yet. */
async function baseIn(
  base: VolumeReference,
  { to, baseName, snapshot }: CloneOptions,
): Promise<VolumeReference> {
  if (to === undefined) {
    if (baseName !== undefined) throw new StowageError('invalid-argument', '--base-name goes with --to');
    return base;
  }
  if (snapshot !== undefined)
    throw new StowageError(
      'invalid-argument',
      '--to copies a base to the other pool; a snapshot is cloned in its own pool',
    );
  const { volume, job } = await callJson<BaseCopy>(`${imagePath(base)}/copies`, {
    ...{ method: 'POST', json: { target: to, name: baseName } },
  });
  if (volume) return { host: volume.host, pool: volume.pool, volume: volume.name };
  return volumeReference((await watchJob(job!.id)).target);
}

const placeText = ({ host, pool, volume }: VolumeReference): string => `${host}/${pool}/${volume}`;

export function imageCommand(): Command {
  const image = new Command('image').description('disks of guests, by the names and rules of Proxmox VE');
  listOptions(image.command('list [host[/pool]]'), { followed: true })
    .description('the images of guests in the fleet, on a host or in a pool')
    .option('--vmid <number>', 'only those of a guest')
    .addOption(new Option('--content <kind>', 'only what is of this kind').choices(IMAGE_CONTENTS))
    .action((place: string | undefined, options: ImageListOptions) => {
      const [host, pool, more] = place === undefined ? [] : splitReference(place);
      if (more !== undefined)
        throw new StowageError('invalid-argument', `'${place}' is not HOST or HOST/POOL`);
      return showList(IMAGES, () => listImages({ host, pool }, options), options);
    });
  image
    .command('alloc <host/pool> <vmid> <size>')
    .description('make an image for a guest, by the next free name that nothing refers to')
    .option('--name <name>', 'by this name, which must be one of the guest')
    .addOption(new Option('--format <format>', 'raw when not given').choices(DISK_FORMATS))
    .action(async (text: string, vmid: string, size: string, options: { name?: string; format?: string }) => {
      const { name, format } = options;
      const wanted = { vmid: parseVmid(vmid), sizeBytes: parseSize(size), name, format };
      const made = await allocateImage(poolReference(text), wanted);
      await show(
        made,
        () => `${printable(referenceOf(made))}: ${made.format}, ${formatBytes(made.sizeBytes)}`,
      );
    });
  image
    .command('free <host/pool/image>')
    .description('delete an image of a guest; a base only when no linked clone stands on it')
    .option('--delete-snapshots', 'and its snapshots')
    .addOption(freeingOptions.wipe())
    .addOption(freeingOptions.limit())
    .addOption(allowUsedOption())
    .addOption(yesOption())
    .action(async (text: string, options: FreeOptions) => {
      const reference = volumeReference(text);
      const { wipe, limit, allowUsed } = options;
      if (limit !== undefined && !wipe)
        throw new StowageError('invalid-argument', '--limit goes with --wipe');
      await confirm(`Delete ${text}?`, options);
      if (wipe) {
        const query = new URLSearchParams(allowUsed ? { allowUsed: 'true' } : {});
        if (options.deleteSnapshots) query.set('deleteSnapshots', 'true');
        const words = await freeByJob(`${volumePath(reference)}/free?${query}`, limit);
        return show({ deleted: text }, () => `${printable(text)} ${words}`);
      }
      await freeImage(reference, options);
      await show({ deleted: text }, () => `${printable(text)} deleted`);
    });
  image
    .command('base <host/pool/image>')
    .description('make a base of an image: it is called base- and takes no write any more')
    .addOption(allowUsedOption())
    .option('--no-wait', 'do not wait for the end')
    .action(async (text: string, options: { wait: boolean; allowUsed?: boolean }) => {
      const path = `${imagePath(volumeReference(text))}/base${usedQuery(options)}`;
      const job = await callJson<Job>(path, { method: 'POST' });
      await finish(job, options.wait, `${text} is the base ${job.target}`);
    });
  image
    .command('clone <host/pool/image> <vmid>')
    .description('make a linked clone of a base for a guest')
    .option('--snapshot <id>', 'of this snapshot of the image, which need be no base')
    .option('--to <host/pool>', 'in another pool: the base is copied there first, once for all its clones')
    .option('--base-name <name>', 'with --to: what a new copy of the base is called there')
    .action(async (text: string, vmid: string, options: CloneOptions) => {
      const { snapshot } = options;
      const json = { vmid: parseVmid(vmid), snapshot };
      const base = await baseIn(volumeReference(text), options);
      const made = await callJson<Image>(`${imagePath(base)}/clone`, {
        ...{ method: 'POST', json },
      });
      await show(made, () =>
        snapshot === undefined
          ? `${printable(referenceOf(made))} stands on ${printable(placeText(base))}`
          : `${printable(referenceOf(made))} is a linked clone of ${printable(text)} as of ${printable(snapshot)}`,
      );
    });
  image
    .command('assign <host/pool/image> <vmid>')
    .description('give an image to another guest, as its next free disk')
    .addOption(allowUsedOption())
    .action(async (text: string, vmid: string, options: { allowUsed?: boolean }) => {
      const json = { vmid: parseVmid(vmid) };
      const path = `${imagePath(volumeReference(text))}/assign${usedQuery(options)}`;
      const image = await callJson<Image>(path, { method: 'POST', json });
      await show(image, () => `${printable(text)} is ${printable(referenceOf(image))} now`);
    });
  return image;
}
