import { z } from 'zod';
import { isPoolType } from '../../shared/conf/pool-types.ts';
import { trashedVolumeSchema } from '../../shared/conf/trash.ts';
import {
  findingSchema,
  newVolumeSchema,
  volumeFormatSchema,
  volumeSchema,
} from '../../shared/conf/volume.ts';
import { documentOfVolume, newVolumeOf } from '../../shared/conf/volume-document.ts';
import { formatVolume, parseVolume } from '../../shared/conf/volume-xml.ts';
import { resizeVolumeSchema } from '../../shared/protocol/agent.ts';
import {
  type FleetVolume,
  fleetVolumeSchema,
  volumeDetailsSchema,
  warningsField,
} from '../../shared/protocol/api.ts';
import { volumeUserSchema } from '../../shared/protocol/domains.ts';
import { VOLUME_ORDERS } from '../../shared/protocol/lists.ts';
import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { nameSchema } from '../../shared/util/names.ts';
import { formatBytes } from '../../shared/util/units.ts';
import { agentVolumePath } from '../hosts/agent-client.ts';
import { type Call, defineAction, type Services } from './action.ts';
import { pageFields, volumeAddress } from './addresses.ts';
import { blockDevice } from './block-device.ts';
import { freeByJob, refuseSnapshots } from './freeing.ts';
import {
  allowUsedField,
  changeVolume,
  listed,
  referenceOf,
  refuseTaking,
  secretField,
  secretNamed,
  shown,
  usersInTheWay,
  type VolumeAddress,
  volumeIfKnown,
} from './volume.ts';

/** As many are named of a base. */
const MOST_CLONES = 1000;

/** What is told beside what was done. */
const warned = fleetVolumeSchema.extend(warningsField);

/** What the owner of a pool should know before its volumes get so much more. */
async function overcommitment(
  { inventory }: Services,
  { host, pool }: { host: string; pool: string },
  moreBytes: number,
): Promise<string[] | undefined> {
  const { capacityBytes, provisionedBytes, fill } = await inventory.pool(host, pool);
  const warnings: string[] = [];
  if (fill === 'warning' || fill === 'critical')
    warnings.push(`pool ${host}/${pool} is nearly full (${fill})`);
  const wanted = (provisionedBytes ?? 0) + moreBytes;
  if (moreBytes > 0 && provisionedBytes !== undefined && wanted > capacityBytes)
    warnings.push(
      `the volumes of pool ${host}/${pool} may grow to ${formatBytes(wanted)} together, it has ${formatBytes(capacityBytes)}`,
    );
  return warnings.length > 0 ? warnings : undefined;
}

/** Which volumes are asked for. */
const volumeFilter = z.object({
  host: nameSchema.optional(),
  pool: nameSchema.optional(),
  name: nameSchema.optional(),
  id: z.uuid().optional(),
  format: volumeFormatSchema.optional(),
  /** A part of the name; letters of ASCII in either case. */
  search: z.string().min(1).max(255).optional(),
  /** The name of a domain that uses it. */
  user: z.string().min(1).max(1024).optional(),
  /** Last changed before or after this time, as its storage tells; ms since the epoch. */
  modifiedBefore: z.number().int().optional(),
  modifiedAfter: z.number().int().optional(),
});

const list = defineAction({
  name: 'volume.list',
  summary: 'Volumes of the fleet, of a host or of a pool, by host, pool and name, a page at a time.',
  role: 'viewer',
  input: volumeFilter.extend({
    ...pageFields,
    /** The last `host/pool/volume` of the page before. */
    after: z.string().max(800).optional(),
  }),
  answer: z.array(fleetVolumeSchema),
  places: ({ host, pool }) => (host === undefined ? [] : [{ host, pool }]),
  run: ({ inventory }, filter, { principal }) => inventory.volumes({ ...filter, scopes: principal.scopes }),
});

const rows = defineAction({
  name: 'volume.rows',
  summary:
    'Volumes in any order from any position, for tables that scroll, and how many there are where that is asked.',
  role: 'viewer',
  input: volumeFilter.extend({
    order: z.enum(VOLUME_ORDERS).default('place'),
    descending: z.boolean().default(false),
    /** The position of the first. */
    offset: z.number().int().nonnegative().default(0),
    limit: z.number().int().min(1).max(1000).default(100),
    count: z.boolean().default(false),
  }),
  answer: z.object({ rows: z.array(fleetVolumeSchema), count: z.number().int().optional() }),
  places: ({ host, pool }) => (host === undefined ? [] : [{ host, pool }]),
  async run({ inventory }, { count, order, descending, offset, limit, ...filter }, { principal }) {
    const asked = { ...filter, scopes: principal.scopes };
    return {
      rows: await inventory.volumeRows({ ...asked, order, descending, offset, limit }),
      count: count ? await inventory.countVolumes(asked) : undefined,
    };
  },
});

const show = defineAction({
  name: 'volume.show',
  summary: 'A volume, what works on it now, and which domains use it.',
  role: 'viewer',
  input: volumeAddress,
  answer: volumeDetailsSchema,
  async run({ inventory, fleet, leases }, address, { principal: { scopes } }) {
    const volume = await inventory.volume(address);
    const agent = await fleet.client(address.host);
    // What was last told of them, where the host cannot say it now.
    const users = agent
      .json(z.array(volumeUserSchema), `${agentVolumePath(address)}/users`)
      .catch(() => inventory.usersOf(address));
    const mapped = agent
      .json(z.object({ device: z.string().max(200).optional() }), `${agentVolumePath(address)}/map`)
      .catch(() => undefined);
    // What goes wrong is thrown where it is waited for.
    users.catch(() => undefined);
    const placeOf = ({ host, pool, name }: FleetVolume) => referenceOf({ host, pool, volume: name });
    const { parentId } = volume;
    // Where several hosts have its storage, it has the id on all of them.
    const parents =
      parentId === undefined ? [] : await inventory.volumes({ id: parentId, limit: 100, scopes });
    const parent = parents.find((each) => each.host === address.host) ?? parents[0];
    const copy = await inventory.copyOf(volume.id);
    const sources = copy ? await inventory.volumes({ id: copy.sourceId, limit: 1, scopes }) : [];
    const clones = volume.isBase ? await inventory.clonesOf(volume, MOST_CLONES, scopes) : [];
    return {
      ...volume,
      parent: parent && placeOf(parent),
      copyOf: copy && { ...copy, source: sources[0] && placeOf(sources[0]) },
      clones: clones.map(placeOf),
      heldBy: await leases.holders(referenceOf(address)),
      mappedAs: (await mapped)?.device,
      users: await users,
    };
  },
});

const document = defineAction({
  name: 'volume.dumpxml',
  summary: "A volume as libvirt's document.",
  role: 'viewer',
  input: volumeAddress,
  answer: 'xml',
  run: async ({ inventory }, address) => formatVolume(documentOfVolume(await inventory.volume(address))),
});

const newVolumeInput = newVolumeSchema.extend({ host: nameSchema, pool: nameSchema, ...secretField });

/** Throws `volume-exists`, and `volume-in-use` while somebody works under the name. */
export async function createVolume(
  services: Services,
  { host, pool, secret: named, ...asked }: z.output<typeof newVolumeInput>,
  by: string,
): Promise<z.output<typeof warned>> {
  const address = { host, pool, volume: asked.name };
  const secret = await secretNamed(services, named ?? asked.encryption?.secret, address);
  if (asked.encryption && secret === undefined)
    throw new StowageError('invalid-argument', 'an encrypted volume needs a secret: say which');
  const encryption = secret === undefined ? undefined : { format: 'luks' as const, secret: secret.id };
  const passphrase = await services.passphrases.toMake(encryption, referenceOf(address));
  const wanted = { ...asked, encryption };
  const warnings = await overcommitment(services, address, wanted.capacityBytes);
  const volume = await changeVolume(services, address, `create by ${by}`, (agent, right) =>
    agent.json(volumeSchema, `/v1/pools/${encodeURIComponent(pool)}/volumes`, {
      method: 'POST',
      json: wanted,
      ...right,
      passphrase,
      patient: true,
    }),
  );
  return { ...(await shown(services, address, volume)), warnings };
}

const create = defineAction({
  name: 'volume.create',
  summary: "A new volume, from fields or from libvirt's document.",
  role: 'operator',
  audited: true,
  input: newVolumeInput,
  answer: warned,
  async document({ inventory }, { xml, host, pool }) {
    const { type } = await inventory.pool(String(host), String(pool));
    return newVolumeOf(parseVolume(xml, { pool: isPoolType(type) ? type : 'dir' }));
  },
  // So it is what the secret is called that is on record, whatever was given.
  plan: (services, { secret, encryption, ...place }) =>
    secretNamed(services, secret ?? encryption?.secret, place),
  record: ({ host, pool, name, format, capacityBytes }, secret) => ({
    target: referenceOf({ host, pool, volume: name }),
    detail: listed(
      `${format}, ${capacityBytes} bytes`,
      secret ? `encrypted with the secret ${secret.usage}` : '',
    ),
  }),
  run: (services, input, { principal }, secret) =>
    createVolume(services, { ...input, secret: secret?.id }, principal.name),
});

export const deletionInput = volumeAddress.extend({
  ...allowUsedField,
  deleteSnapshots: z.boolean().default(false),
});
type Deletion = z.output<typeof deletionInput>;

/** Looks whether a volume can be deleted. Gives what the record must say. */
export async function planDeletion(
  services: Services,
  input: Deletion,
  { principal }: Call,
): Promise<string> {
  await refuseTaking(services, input, principal);
  const { wipesDeleted } = await services.inventory.knownPool(input.host, input.pool);
  if (wipesDeleted) await refuseSnapshots(services, input);
  const users = await usersInTheWay(services, input, input.allowUsed);
  return listed(
    input.deleteSnapshots ? 'with its snapshots' : '',
    wipesDeleted ? 'overwritten by a job' : '',
    users,
  );
}

export async function deleteVolume(
  services: Services,
  { allowUsed, deleteSnapshots, ...address }: Deletion,
  { principal, note }: Call,
): Promise<void> {
  const { wipesDeleted } = await services.inventory.knownPool(address.host, address.pool);
  if (wipesDeleted) {
    const job = await freeByJob(
      services,
      address,
      { ...wipesDeleted, allowUsed, deleteSnapshots },
      principal.name,
    );
    return note(`job ${job.id}`);
  }
  await changeVolume(services, address, `delete by ${principal.name}`, (agent, right) =>
    agent.send(`${agentVolumePath(address)}?deleteSnapshots=${deleteSnapshots}`, {
      method: 'DELETE',
      ...right,
      allowUsed,
      patient: true,
    }),
  );
  await services.inventory.shows(address, undefined);
}

const remove = defineAction({
  name: 'volume.delete',
  summary: 'Deletes a volume.',
  role: 'operator',
  audited: true,
  input: deletionInput,
  answer: 'nothing',
  plan: planDeletion,
  record: (_input, detail) => ({ detail }),
  run: deleteVolume,
});

const trash = defineAction({
  name: 'volume.trash',
  summary: 'Takes a volume out of its pool, with its snapshots, and keeps it in the trash of the pool.',
  role: 'operator',
  audited: true,
  input: volumeAddress.extend({
    ...allowUsedField,
    /** How long it is kept at least. */
    keepSeconds: z
      .number()
      .int()
      .min(0)
      .max(100 * 366 * 86_400)
      .default(7 * 86_400),
  }),
  answer: trashedVolumeSchema,
  async plan(services, input, { principal }) {
    await refuseTaking(services, input, principal);
    return usersInTheWay(services, input, input.allowUsed);
  },
  record: ({ keepSeconds }, users) => ({ detail: listed(`kept for ${keepSeconds} s`, users) }),
  async run(services, { allowUsed, keepSeconds, ...address }, { principal, note }) {
    const json = { keepUntil: clock.now() + keepSeconds * 1000, by: principal.name };
    const trashed = await changeVolume(services, address, `delete by ${principal.name}`, (agent, right) =>
      agent.json(trashedVolumeSchema, `${agentVolumePath(address)}/trash`, {
        ...{ method: 'POST', json, ...right, allowUsed, patient: true },
      }),
    );
    note(trashed.id);
    await services.inventory.shows(address, undefined);
    return trashed;
  },
});

const resize = defineAction({
  name: 'volume.resize',
  summary: 'Changes the capacity of a volume.',
  role: 'operator',
  audited: true,
  input: volumeAddress.extend({
    ...allowUsedField,
    ...resizeVolumeSchema.shape,
    /** The capacity grows by so many bytes, or, with `shrink`, becomes so many less. */
    delta: z.boolean().default(false),
  }),
  answer: warned,
  plan: async (services, input) => (input.shrink ? usersInTheWay(services, input, input.allowUsed) : ''),
  record: ({ capacityBytes, shrink, delta }, users) => ({
    detail: listed(
      `${delta ? (shrink ? 'by -' : 'by +') : 'to '}${capacityBytes} bytes`,
      shrink ? 'what lies beyond it is lost' : '',
      users,
    ),
  }),
  async run(services, { allowUsed, capacityBytes, shrink, delta, ...address }, { principal }) {
    const path = agentVolumePath(address);
    // The host may know one that is not known here yet: then it grows without a warning.
    const before = await volumeIfKnown(services, address);
    const more = delta ? capacityBytes : capacityBytes - (before?.capacityBytes ?? capacityBytes);
    const warnings = await overcommitment(services, address, shrink ? 0 : more);
    const volume = await changeVolume(
      services,
      address,
      `resize by ${principal.name}`,
      async (agent, right) => {
        // Nobody else changes it meanwhile.
        const now = await agent.json(volumeSchema, path);
        const base = delta ? now.capacityBytes : 0;
        const json = { capacityBytes: base + (delta && shrink ? -capacityBytes : capacityBytes), shrink };
        // A luks image tells its size without its key.
        const isInside = now.encryption && now.format === 'qcow2';
        const passphrase = isInside ? await services.secrets.passphraseOf({ ...address, ...now }) : undefined;
        return agent.json(volumeSchema, `${path}/resize`, {
          ...{ method: 'POST', json, ...right, allowUsed, passphrase, patient: true },
        });
      },
    );
    return { ...(await shown(services, address, volume)), warnings };
  },
});

const setSecret = defineAction({
  name: 'volume.set-secret',
  summary: 'Puts on record which secret opens an encrypted volume, once it has.',
  role: 'operator',
  audited: true,
  input: volumeAddress.extend({ secret: secretField.secret.unwrap() }),
  answer: fleetVolumeSchema,
  plan: ({ secrets }, { secret, ...address }) => secrets.volumeSecret(secret, address),
  record: (_input, { usage }) => ({ detail: `the secret ${usage}` }),
  async run(services, { secret: _, ...address }, { principal }, { id: secret }) {
    const passphrase = await services.secrets.passphraseBy(secret, address);
    const volume = await changeVolume(services, address, `open by ${principal.name}`, (agent, right) =>
      agent.json(volumeSchema, `${agentVolumePath(address)}/secret`, {
        ...{ method: 'PUT', json: { secret }, ...right, passphrase, patient: true },
      }),
    );
    return shown(services, address, volume);
  },
});

const checkPath = (address: VolumeAddress): string => `${agentVolumePath(address)}/check`;

const check = defineAction({
  name: 'volume.check',
  summary: 'Says what is wrong with a volume; nothing is changed.',
  role: 'viewer',
  audited: true,
  input: volumeAddress,
  answer: z.array(findingSchema),
  async run({ fleet }, address) {
    const agent = await fleet.client(address.host);
    return agent.json(z.array(findingSchema), checkPath(address), {
      method: 'POST',
      json: { repair: false },
      patient: true,
    });
  },
});

const repair = defineAction({
  name: 'volume.repair',
  summary: 'Mends what can be mended of a volume, and says what was wrong.',
  role: 'operator',
  audited: true,
  input: volumeAddress,
  answer: z.array(findingSchema),
  run: (services, address, { principal }) =>
    changeVolume(services, address, `repair by ${principal.name}`, (agent, right) =>
      agent.json(z.array(findingSchema), checkPath(address), {
        method: 'POST',
        json: { repair: true },
        ...right,
        patient: true,
      }),
    ),
});

export const volumeActions = [
  list,
  rows,
  show,
  document,
  blockDevice,
  create,
  remove,
  trash,
  resize,
  setSecret,
  check,
  repair,
];
