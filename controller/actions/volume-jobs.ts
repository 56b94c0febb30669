import { z } from 'zod';
import { snapshotSchema } from '../../shared/conf/volume.ts';
import { cloneVolumeSchema, poolTraitsSchema, wipeVolumeSchema } from '../../shared/protocol/agent.ts';
import { jobSchema, migrationCheckSchema } from '../../shared/protocol/api.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { splitReference } from '../../shared/util/references.ts';
import { type AgentClient, agentVolumePath } from '../hosts/agent-client.ts';
import { clone } from '../jobs/kinds/clone.ts';
import { migrate } from '../jobs/kinds/migrate.ts';
import { migrateStream, streamFormatOf } from '../jobs/kinds/migrate-stream.ts';
import { checkMigration } from '../jobs/kinds/migration-check.ts';
import { migrateParamsSchema, refuseStranger } from '../jobs/kinds/migration-spec.ts';
import { wipe } from '../jobs/kinds/wipe.ts';
import { defineAction } from './action.ts';
import { volumeAddress } from './addresses.ts';
import {
  allowUsedField,
  listed,
  referenceOf,
  refuseTaking,
  secretField,
  secretNamed,
  usersInTheWay,
  type VolumeAddress,
  volumeIfKnown,
} from './volume.ts';

const wipeAction = defineAction({
  name: 'volume.wipe',
  summary: 'Begins a job that overwrites all content of a volume.',
  role: 'operator',
  audited: true,
  input: volumeAddress.extend({ ...allowUsedField, ...wipeVolumeSchema.shape }),
  answer: jobSchema,
  async plan(services, input, { principal }) {
    await services.inventory.volume(input);
    await refuseTaking(services, input, principal);
    return usersInTheWay(services, input, input.allowUsed);
  },
  record: ({ algorithm }, users) => ({ detail: listed(algorithm, users) }),
  async run({ jobs }, { allowUsed, algorithm, ...address }, { principal, note }) {
    const job = await jobs.submit(
      wipe,
      { volume: referenceOf(address), allowUsed, algorithm },
      principal.name,
    );
    note(`job ${job.id}`);
    return job;
  },
});

/** Throws `not-supported` where no clones stand on snapshots, `snapshot-not-found`. */
async function requireSnapshot(agent: AgentClient, address: VolumeAddress, id: string): Promise<void> {
  const { pool, volume } = address;
  const { features } = await agent.json(poolTraitsSchema, `/v1/pools/${encodeURIComponent(pool)}/traits`);
  if (!features.link?.includes('snapshot'))
    throw new StowageError('not-supported', `no linked clones stand on snapshots in pool '${pool}'`);
  const there = await agent.json(z.array(snapshotSchema), `${agentVolumePath(address)}/snapshots`);
  if (!there.some((snapshot) => snapshot.id === id))
    throw new StowageError('snapshot-not-found', `volume '${volume}' has no snapshot ${id}`);
}

const cloneAction = defineAction({
  name: 'volume.clone',
  summary:
    'Begins a job that makes a full copy of a volume in the same pool, or a linked clone of a base or a snapshot.',
  role: 'operator',
  audited: true,
  input: volumeAddress.extend(cloneVolumeSchema.shape),
  answer: jobSchema,
  async plan({ inventory, fleet }, input) {
    const { isBase } = await inventory.volume(input);
    const { linked, snapshot } = input;
    if (!linked && snapshot !== undefined)
      throw new StowageError(
        'invalid-argument',
        'a clone of a snapshot is a linked one; a full copy of it is made by vol copy --snapshot',
      );
    if (linked && !isBase && snapshot === undefined)
      throw new StowageError(
        'invalid-argument',
        `'${referenceOf(input)}' is no base: make it one first, or clone a snapshot of it`,
      );
    if (snapshot !== undefined) await requireSnapshot(await fleet.client(input.host), input, snapshot);
  },
  record: ({ name, linked, snapshot }) => ({
    detail: listed(`to ${name}`, linked ? 'linked' : '', snapshot === undefined ? '' : `as of ${snapshot}`),
  }),
  async run({ jobs }, { name, linked, snapshot, ...address }, { principal, note }) {
    const source = referenceOf(address);
    const target = referenceOf({ ...address, volume: name });
    const job = await jobs.submit(clone, { source, target, linked, snapshot }, principal.name);
    note(`job ${job.id}`);
    return job;
  },
});

/** Throws `invalid-argument` for what is neither `HOST/POOL` nor `HOST/POOL/VOLUME`. */
function destinationOf(target: string, volume: string): VolumeAddress {
  const [host, pool, name = volume] = splitReference(target);
  if (!host || !pool)
    throw new StowageError('invalid-argument', 'the target is HOST/POOL or HOST/POOL/VOLUME');
  return { host, pool, volume: name };
}

/** What is to be moved, and where to. */
const migration = {
  role: 'operator',
  input: volumeAddress.extend({
    ...migrateParamsSchema.omit({ source: true, target: true, secret: true, baseTransfer: true }).shape,
    ...secretField,
    /** `HOST/POOL`, or `HOST/POOL/VOLUME` for another name. */
    target: z.string().max(800),
  }),
  places({ host, pool, target }: { host?: string; pool?: string; target?: string }) {
    const [toHost, toPool] = target === undefined ? [] : splitReference(target);
    return target === undefined
      ? [{ host, pool }]
      : [
          { host, pool },
          { host: toHost, pool: toPool },
        ];
  },
} as const;

const checkAction = defineAction({
  ...migration,
  name: 'volume.check-migration',
  summary:
    'What a migration would meet now: how the volume would travel, and all that would refuse it. Nothing is done.',
  answer: migrationCheckSchema,
  async run(services, { host, pool, volume, target, ...options }, { principal, signal }) {
    const { fleet, inventory, leases, passphrases } = services;
    const to = destinationOf(target, volume);
    await inventory.volume({ host, pool, volume });
    const params = {
      ...options,
      source: referenceOf({ host, pool, volume }),
      target: referenceOf(to),
      secret: (await secretNamed(services, options.secret, to))?.id,
    };
    const agent = (name: string) => fleet.client(name);
    return checkMigration({ params, agent, inventory, passphrases, signal }, leases, () =>
      refuseTaking(services, { host, pool, volume }, principal),
    );
  },
});

/** Throws `invalid-argument` for what a stream of the storage cannot be. */
function refuseBeside(options: {
  snapshot?: string;
  deleteSnapshots: boolean;
  format?: string;
  secret?: string;
}): void {
  const { snapshot, deleteSnapshots, format, secret } = options;
  if (snapshot === undefined && !deleteSnapshots && format === undefined && secret === undefined) return;
  throw new StowageError(
    'invalid-argument',
    'with its snapshots a volume travels as it is: not as of one snapshot, without some, in another format, or encrypted anew',
  );
}

const migrateAction = defineAction({
  ...migration,
  input: migration.input.extend({
    /** Snapshots of the storage travel too, as a stream of it: from ZFS to ZFS, from btrfs to btrfs. */
    withSnapshots: z.boolean().default(false),
  }),
  name: 'volume.migrate',
  summary: 'Begins a job that moves or copies a volume to another pool, straight from host to host.',
  audited: true,
  answer: jobSchema,
  async plan(services, input, { principal }) {
    const to = destinationOf(input.target, input.volume);
    if (referenceOf(to) === referenceOf(input))
      throw new StowageError('invalid-argument', 'the target is the volume itself');
    if (input.refresh && !input.keepSource)
      throw new StowageError('invalid-argument', 'a refresh is of a copy: it keeps its source');
    if (input.snapshot !== undefined && !input.keepSource)
      throw new StowageError('invalid-argument', 'a snapshot is copied, not moved: the source is kept');
    if (input.withSnapshots) refuseBeside(input);
    await services.inventory.volume(input);
    if (!input.keepSource) await refuseTaking(services, input, principal);
    await services.inventory.pool(to.host, to.pool);
    if (input.withSnapshots)
      await streamFormatOf((host) => services.fleet.client(host), {
        ...{ source: referenceOf(input), target: referenceOf(to), refresh: input.refresh },
      });
    // Of a move the source goes away, by a refresh the target is replaced.
    const taken = input.keepSource ? (input.refresh ? to : undefined) : input;
    const isThere = taken && (await volumeIfKnown(services, taken));
    if (isThere && input.refresh && !input.withSnapshots)
      await refuseStranger(
        {
          inventory: services.inventory,
          params: { source: referenceOf(input), target: referenceOf(to), replace: input.replace },
        },
        isThere,
      );
    const users = isThere ? await usersInTheWay(services, taken, input.allowUsed) : '';
    return { to: referenceOf(to), users, secret: await secretNamed(services, input.secret, to) };
  },
  record: (
    { keepSource, snapshot, refresh, replace, format, deleteSnapshots, withSnapshots },
    { to, users, secret },
  ) => ({
    detail: listed(
      `${keepSource ? 'copied' : 'moved'} to ${to}`,
      snapshot === undefined ? '' : `as at the snapshot ${snapshot}`,
      refresh ? `what is there is ${replace ? 'replaced' : 'brought up to date'}` : '',
      withSnapshots ? 'with its snapshots' : '',
      format ? `as ${format}` : '',
      deleteSnapshots ? 'also with snapshots that stay behind' : '',
      secret ? `encrypted with the secret ${secret.usage}` : '',
      users,
    ),
  }),
  async run({ jobs }, { host, pool, volume, target: _, ...options }, { principal, note }, { to, secret }) {
    const source = referenceOf({ host, pool, volume });
    const { keepSource, refresh, allowUsed, limitBytesPerSecond } = options;
    const job = options.withSnapshots
      ? await jobs.submit(
          migrateStream,
          { source, target: to, keepSource, refresh, allowUsed, limitBytesPerSecond },
          principal.name,
        )
      : await jobs.submit(migrate, { source, target: to, ...options, secret: secret?.id }, principal.name);
    note(`job ${job.id}`);
    return job;
  },
});

export const volumeJobActions = [wipeAction, cloneAction, checkAction, migrateAction];
