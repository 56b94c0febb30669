import { z } from 'zod';
import { trashedVolumeSchema } from '../../shared/conf/trash.ts';
import { type Job, jobSchema } from '../../shared/protocol/api.ts';
import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { formatBytes } from '../../shared/util/units.ts';
import { agentVolumePath } from '../hosts/agent-client.ts';
import { free } from '../jobs/kinds/free.ts';
import { defineAction, type Services } from './action.ts';
import { volumeAddress } from './addresses.ts';
import { findTrashed, trashAddress } from './trash.ts';
import {
  allowUsedField,
  changeVolume,
  listed,
  referenceOf,
  refuseTaking,
  usersInTheWay,
  type VolumeAddress,
  volumeIfKnown,
} from './volume.ts';

const limitField = { limitBytesPerSecond: z.number().positive().optional() };

const overwrittenWords = (limit: number | undefined): string =>
  limit === undefined ? 'overwritten' : `overwritten, at most ${formatBytes(limit)} a second`;

/**
 * Takes a volume out of its pool, and begins the job that overwrites what it held. What cannot be overwritten stays: throws
 * `volume-has-snapshots` where snapshots of the storage would keep it, `not-supported`, `volume-in-use`.
 */
export async function freeByJob(
  services: Services,
  address: VolumeAddress,
  options: { allowUsed: boolean; deleteSnapshots: boolean; limitBytesPerSecond?: number },
  actor: string,
): Promise<Job> {
  const { allowUsed, deleteSnapshots, limitBytesPerSecond } = options;
  const json = { keepUntil: clock.now(), by: actor, wipe: { limitBytesPerSecond, deleteSnapshots } };
  // From now on it is overwritten before it goes, also where nobody is left to begin the job.
  const { id } = await changeVolume(services, address, `free by ${actor}`, (agent, right) =>
    agent.json(trashedVolumeSchema, `${agentVolumePath(address)}/trash`, {
      ...{ method: 'POST', json, ...right, allowUsed, patient: true },
    }),
  );
  await services.inventory.shows(address, undefined);
  return services.jobs.submit(free, { volume: referenceOf(address), id, limitBytesPerSecond }, actor);
}

/** Throws `volume-has-snapshots` for a volume that has some, unless they are to go with it. */
export async function refuseSnapshots(
  services: Services,
  address: VolumeAddress & { deleteSnapshots: boolean },
): Promise<void> {
  const { snapshotCount = 0 } = (await volumeIfKnown(services, address)) ?? {};
  if (snapshotCount > 0 && !address.deleteSnapshots)
    throw new StowageError(
      'volume-has-snapshots',
      `'${referenceOf(address)}' has snapshots (${snapshotCount}), which would go with it`,
    );
}

const freeVolume = defineAction({
  name: 'volume.free',
  summary:
    'Takes a volume out of its pool at once, and begins a job that overwrites what it held with zeros and deletes it.',
  role: 'operator',
  audited: true,
  input: volumeAddress.extend({
    ...allowUsedField,
    ...limitField,
    deleteSnapshots: z.boolean().default(false),
  }),
  answer: jobSchema,
  async plan(services, input, { principal }) {
    await services.inventory.volume(input);
    await refuseSnapshots(services, input);
    await refuseTaking(services, input, principal);
    return usersInTheWay(services, input, input.allowUsed);
  },
  record: ({ limitBytesPerSecond, deleteSnapshots }, users) => ({
    detail: listed(overwrittenWords(limitBytesPerSecond), deleteSnapshots ? 'with its snapshots' : '', users),
  }),
  async run(services, { allowUsed, limitBytesPerSecond, deleteSnapshots, ...address }, { principal, note }) {
    const options = { allowUsed, limitBytesPerSecond, deleteSnapshots };
    const job = await freeByJob(services, address, options, principal.name);
    note(`job ${job.id}`);
    return job;
  },
});

const freeTrashed = defineAction({
  name: 'trash.free',
  summary: 'Begins a job that overwrites what a volume in the trash held with zeros, and deletes it.',
  role: 'operator',
  audited: true,
  input: trashAddress.extend(limitField),
  answer: jobSchema,
  async plan(services, { limitBytesPerSecond: _, ...address }) {
    const { volume } = await findTrashed(services, address);
    const same = (await services.jobs.unended(free.kind)).find(({ params }) => params.id === address.id);
    if (same) throw new StowageError('volume-in-use', `job ${same.id} overwrites ${address.id} already`);
    return volume.name;
  },
  record: ({ id, limitBytesPerSecond }, volume) => ({
    detail: listed(`${id}, which was ${volume}`, overwrittenWords(limitBytesPerSecond)),
  }),
  async run({ fleet, jobs }, { host, pool, id, limitBytesPerSecond }, { principal, note }, volume) {
    const agent = await fleet.client(host);
    // What cannot be overwritten is told now; and from now on nothing deletes it as it is.
    await agent.send(`/v1/pools/${encodeURIComponent(pool)}/trash/${id}/wipe`, {
      ...{ method: 'PUT', json: { limitBytesPerSecond }, patient: true },
    });
    const params = { volume: `${host}/${pool}/${volume}`, id, limitBytesPerSecond };
    const job = await jobs.submit(free, params, principal.name);
    note(`job ${job.id}`);
    return job;
  },
});

export const freeingActions = [freeVolume, freeTrashed];
