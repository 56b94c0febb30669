import { z } from 'zod';
import { volumeFormatSchema, volumeSchema } from '../../shared/conf/volume.ts';
import { snapshotIdSchema } from '../../shared/protocol/agent.ts';
import {
  type FleetPool,
  type FleetVolume,
  type Image,
  imageSchema,
  jobSchema,
} from '../../shared/protocol/api.ts';
import { mayTouch } from '../../shared/protocol/rights.ts';
import {
  baseNamedIn,
  cloneFormat,
  namingOf,
  poolNameOf,
  pveVolume,
  volumeNameOf,
} from '../../shared/pve/images.ts';
import { baseName, diskName, parseVolumeId, parseVolumeName } from '../../shared/pve/volume-names.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { nameSchema } from '../../shared/util/names.ts';
import { checkName } from '../../shared/util/references.ts';
import type { Principal } from '../auth/principal.ts';
import { agentVolumePath } from '../hosts/agent-client.ts';
import { base } from '../jobs/kinds/base.ts';
import { defineAction, type Services } from './action.ts';
import { pageFields, poolAddress, volumeAddress } from './addresses.ts';
import { renameVolume } from './attributes.ts';
import {
  allowUsedField,
  changeVolume,
  listed,
  referenceOf,
  refuseClones,
  shown,
  usersInTheWay,
} from './volume.ts';
import { createVolume, deleteVolume, deletionInput, planDeletion } from './volumes.ts';

const KIB = 1024;
/** Volumes looked at together. */
const PAGE = 1000;
const formatSchema = volumeFormatSchema.exclude(['luks', 'ploop']);
const vmidSchema = z.number().int().min(100).max(999_999_999);

type PoolOf = (volume: { host: string; pool: string }) => Promise<FleetPool>;

/** Looks a pool up once. */
function poolsOf({ inventory }: Services): PoolOf {
  const known = new Map<string, Promise<FleetPool>>();
  return ({ host, pool }) => {
    const key = `${host}/${pool}`;
    const found = known.get(key) ?? inventory.pool(host, pool);
    known.set(key, found);
    return found;
  };
}

/**
 * Tells of an image whether its pool is the first, by host and name, of those that are one storage: of those that run and that the
 * caller may see.
 */
async function firstPlaces(
  { inventory }: Services,
  principal: Principal,
): Promise<(image: Image) => boolean> {
  const later = new Set<string>();
  const seen = new Set<string>();
  for (const { host, name, storageId, state } of await inventory.sharedPools()) {
    const isSeen = mayTouch(principal, { host, pool: name }, 'look');
    if (state !== 'running' || storageId === undefined || !isSeen) continue;
    if (seen.has(storageId)) later.add(`${host}/${name}`);
    seen.add(storageId);
  }
  return ({ host, pool }) => !later.has(`${host}/${pool}`);
}

/** The volumes that volume ids may name: those of the name in each pool of the name. */
async function namedBy(
  { inventory }: Services,
  volids: readonly string[],
  { host, pool, scopes }: { host?: string; pool?: string; scopes: readonly string[] },
): Promise<FleetVolume[]> {
  const pools = await inventory.pools({ host, scopes });
  const found: FleetVolume[] = [];
  for (const volid of volids) {
    const { storage, volname } = parseVolumeId(volid);
    for (const each of pools) {
      if (each.name !== storage || (pool !== undefined && pool !== storage)) continue;
      const naming = namingOf(each);
      const name = poolNameOf(naming, parseVolumeName(naming, volname));
      const volume = await inventory.find({ host: each.host, pool: each.name, volume: name });
      if (volume) found.push(volume);
    }
  }
  return found;
}

/** The images among volumes, in their order. */
async function imagesOf(
  { inventory }: Services,
  volumes: readonly FleetVolume[],
  poolOf: PoolOf,
): Promise<Image[]> {
  const parents = await inventory.namesOf(volumes.flatMap(({ parentId }) => parentId ?? []));
  const images: Image[] = [];
  for (const volume of volumes) {
    const { host, pool, name, id, format, capacityBytes, allocationBytes, timestamps, notes } = volume;
    const naming = namingOf(await poolOf(volume));
    const parsed = pveVolume(naming, name);
    if (!parsed) continue;
    const onRecord = volume.parentId === undefined ? undefined : parents.get(volume.parentId);
    // What Proxmox VE made itself is not on record here.
    const parent = onRecord ?? baseNamedIn(volume.backingStore?.path);
    const born = timestamps?.btime ?? timestamps?.ctime;
    images.push({
      volid: `${pool}:${volumeNameOf(naming, parsed, parent)}`,
      content: parsed.content,
      ...{ host, pool, name, id, format, parent, notes },
      vmid: parsed.vmid,
      sizeBytes: capacityBytes,
      usedBytes: allocationBytes,
      createdAt: born === undefined ? undefined : Math.floor(Number(born) * 1000),
      isBase: volume.isBase === true,
      isProtected: volume.isProtected === true,
    });
  }
  return images;
}

/** Throws `invalid-name` for a volume that Proxmox VE would not know as an image. */
async function imageOf(services: Services, volume: FleetVolume): Promise<Image> {
  const [image] = await imagesOf(services, [volume], poolsOf(services));
  if (image) return image;
  throw new StowageError('invalid-name', `'${volume.name}' is no name of an image in Proxmox VE`);
}

const byPlace = (a: Image, b: Image): number => {
  const differs = (['host', 'pool', 'name'] as const).find((key) => a[key] !== b[key]);
  return differs === undefined ? 0 : a[differs] < b[differs] ? -1 : 1;
};

/** What the names of a guest's images have in them: by these the index of names leads to them. */
const partsOfNames = (vmid: number): string[] => [`-${vmid}-`, `${vmid}:`];

const list = defineAction({
  name: 'image.list',
  summary: 'The images of guests, and what else Proxmox VE keeps, by host, pool and name, a page at a time.',
  role: 'viewer',
  input: z.object({
    host: nameSchema.optional(),
    pool: nameSchema.optional(),
    vmid: vmidSchema.optional(),
    /** Only these; then nothing is asked of the guest. */
    volids: z.array(z.string().max(1024)).max(1000).optional(),
    /** Only this one, which may have commas in it. */
    volid: z.string().max(1024).optional(),
    content: imageSchema.shape.content.optional(),
    ...pageFields,
    /** The last `host/pool/name` of the page before. */
    after: z.string().max(800).optional(),
  }),
  answer: z.array(imageSchema),
  places: ({ host, pool }) => (host === undefined ? [] : [{ host, pool }]),
  async run(
    services,
    { host, pool, vmid, volid, volids = volid === undefined ? undefined : [volid], content, limit, after },
    { principal },
  ) {
    const poolOf = poolsOf(services);
    const wanted = volids && new Set(volids);
    // What several hosts have is one image: it is listed where it comes first.
    const isFirst = host === undefined ? await firstPlaces(services, principal) : () => true;
    const isWanted = (image: Image): boolean =>
      isFirst(image) &&
      (wanted ? wanted.has(image.volid) : vmid === undefined || image.vmid === vmid) &&
      (content === undefined || image.content === content);
    if (wanted) {
      const named = await namedBy(services, [...wanted], { host, pool, scopes: principal.scopes });
      return (await imagesOf(services, named, poolOf)).filter(isWanted).slice(0, limit);
    }
    const found = new Map<string, Image>();
    for (const search of vmid === undefined ? [undefined] : partsOfNames(vmid)) {
      // Of a small page few may be images.
      const filter = { host, pool, search, scopes: principal.scopes, limit: Math.max(limit, PAGE) };
      let count = 0;
      for (let from = after; count < limit; ) {
        const page = await services.inventory.volumes({ ...filter, after: from });
        const images = (await imagesOf(services, page, poolOf)).filter(isWanted);
        for (const image of images) found.set(referenceOf({ ...image, volume: image.name }), image);
        count += images.length;
        const last = page.at(-1);
        if (page.length < filter.limit || !last) break;
        await new Promise(setImmediate);
        from = `${last.host}/${last.pool}/${last.name}`;
      }
    }
    return [...found.values()].sort(byPlace).slice(0, limit);
  },
});

const allocate = defineAction({
  name: 'image.allocate',
  summary: 'Makes a new image for a guest, under the name given or the next free one.',
  role: 'operator',
  audited: true,
  input: poolAddress.extend({
    vmid: vmidSchema,
    name: nameSchema.optional(),
    /** Rounded up to KiB, and to what the storage needs. */
    sizeBytes: z
      .number()
      .int()
      .positive()
      .max(Number.MAX_SAFE_INTEGER - KIB),
    /** As the name says, else raw. */
    format: formatSchema.optional(),
  }),
  answer: imageSchema,
  async plan(services, { host, pool, vmid, name, format }) {
    const naming = namingOf(await services.inventory.knownPool(host, pool));
    if (name === undefined) return { naming, format: format ?? ('raw' as const) };
    const parsed = pveVolume(naming, name);
    if (parsed?.vmid !== vmid || parsed.isBase)
      throw new StowageError('invalid-name', `'${name}' is not the name of an image of guest ${vmid} there`);
    const named = formatSchema.safeParse(parsed.format).data;
    if (named === undefined)
      throw new StowageError('not-supported', `no volumes of format ${parsed.format} are made here`);
    // On devices names tell little: qcow2 may lie in any of them.
    const isTold = naming === 'dir' || named !== 'raw';
    if (isTold && format !== undefined && format !== named)
      throw new StowageError(
        'invalid-argument',
        `'${name}' is the name of a ${named} image, not of a ${format} one`,
      );
    return { naming, format: isTold ? named : (format ?? named) };
  },
  record: ({ vmid, name, sizeBytes }) => ({
    detail: listed(`for guest ${vmid}`, name ?? '', `${sizeBytes} bytes`),
  }),
  async run(services, { host, pool, vmid, name: given, sizeBytes }, call, { naming, format }) {
    const capacityBytes = Math.ceil(sizeBytes / KIB) * KIB;
    const make = (name: string): Promise<FleetVolume> =>
      createVolume(
        services,
        { host, pool, name, capacityBytes, format, preallocate: false },
        call.principal.name,
      );
    const volume =
      given === undefined
        ? await services.diskNumbers.with({ host, pool }, vmid, (number) =>
            make(diskName(naming, { vmid, number, format })),
          )
        : await make(given);
    call.note(volume.name);
    return imageOf(services, volume);
  },
});

const free = defineAction({
  name: 'image.free',
  summary: 'Deletes an image of a guest.',
  role: 'operator',
  audited: true,
  input: deletionInput,
  answer: 'nothing',
  async plan(services, input, call) {
    await imageOf(services, await services.inventory.volume(input));
    return planDeletion(services, input, call);
  },
  record: (_input, detail) => ({ detail }),
  run: deleteVolume,
});

const createBase = defineAction({
  name: 'image.create-base',
  summary:
    'Begins a job that makes a base of an image: it takes no write any more, and is called base- and not vm-.',
  role: 'operator',
  audited: true,
  input: volumeAddress.extend(allowUsedField),
  answer: jobSchema,
  async plan(services, input) {
    const { name, isBase } = await imageOf(services, await services.inventory.volume(input));
    if (isBase) throw new StowageError('volume-is-base', `'${referenceOf(input)}' is a base already`);
    if (/^base/.test(name))
      throw new StowageError(
        'invalid-argument',
        `'${referenceOf(input)}' is called as a base and is none; 'vol base' makes it one under this name`,
      );
    const target = { ...input, volume: baseName(name) };
    checkName('base', target.volume);
    return { target, users: await usersInTheWay(services, input, input.allowUsed) };
  },
  record: (_input, { target, users }) => ({ detail: listed(`as ${target.volume}`, users) }),
  async run(services, { allowUsed, ...address }, { principal, note }, { target }) {
    const job = await services.jobs.submit(
      base,
      { source: referenceOf(address), target: referenceOf(target), allowUsed },
      principal.name,
    );
    note(`job ${job.id}`);
    return job;
  },
});

const clone = defineAction({
  name: 'image.clone',
  summary: 'Makes a linked clone of a base, or of a snapshot, for a guest, in the same pool.',
  role: 'operator',
  audited: true,
  input: volumeAddress.extend({ vmid: vmidSchema, snapshot: snapshotIdSchema.optional() }),
  answer: imageSchema,
  async plan(services, input) {
    const volume = await services.inventory.volume(input);
    await imageOf(services, volume);
    if (!volume.isBase && input.snapshot === undefined)
      throw new StowageError(
        'invalid-argument',
        `'${referenceOf(input)}' is no base; make one of it first, clone a snapshot of it, or make a full copy: vol clone`,
      );
    const pool = await services.inventory.pool(input.host, input.pool);
    return { naming: namingOf(pool), format: cloneFormat(pool, volume.format) };
  },
  record: ({ vmid, snapshot }) => ({
    detail: listed(`for guest ${vmid}`, snapshot === undefined ? '' : `as of ${snapshot}`),
  }),
  async run(services, { vmid, snapshot, ...address }, { principal, note }, { naming, format }) {
    await using _base = await services.leases.acquire({
      volume: referenceOf(address),
      mode: 'read',
      holder: `clone by ${principal.name}`,
    });
    const volume = await services.diskNumbers.with(address, vmid, async (number) => {
      const target = { ...address, volume: diskName(naming, { vmid, number, format }) };
      const made = await changeVolume(services, target, `clone by ${principal.name}`, (agent, right) =>
        agent.json(volumeSchema, `${agentVolumePath(address)}/clone`, {
          ...{
            method: 'POST',
            json: { name: target.volume, linked: true, snapshot },
            ...right,
            patient: true,
          },
        }),
      );
      return shown(services, target, made);
    });
    note(volume.name);
    return imageOf(services, volume);
  },
});

const assign = defineAction({
  name: 'image.assign',
  summary:
    'Gives an image to another guest: it is called as the next free disk of that, and is the same image.',
  role: 'operator',
  audited: true,
  input: volumeAddress.extend({ vmid: vmidSchema, ...allowUsedField }),
  answer: imageSchema,
  async plan(services, input, { principal }) {
    const volume = await services.inventory.volume(input);
    const image = await imageOf(services, volume);
    if (image.vmid === undefined)
      throw new StowageError('invalid-argument', `'${volume.name}' is no guest's`);
    if (image.vmid === input.vmid)
      throw new StowageError('invalid-argument', `'${volume.name}' is guest ${input.vmid}'s already`);
    await refuseClones(services, volume, principal);
    const users = await usersInTheWay(services, input, input.allowUsed);
    return { image, users, naming: namingOf(await services.inventory.pool(input.host, input.pool)) };
  },
  record: ({ vmid }, { users }) => ({ detail: listed(`to guest ${vmid}`, users) }),
  async run(services, { vmid, allowUsed, ...address }, { principal, note }, { image, naming }) {
    const volume = await services.diskNumbers.with(address, vmid, (number) => {
      const disk = diskName(naming, { vmid, number, format: image.format });
      const name = image.isBase ? baseName(disk) : disk;
      return renameVolume(services, address, { name, allowUsed }, principal.name);
    });
    note(volume.name);
    return imageOf(services, volume);
  },
});

export const imageActions = [list, allocate, free, createBase, clone, assign];
