import { z } from 'zod';
import { trashedVolumeSchema } from '../../shared/conf/trash.ts';
import { type Job, jobSchema } from '../../shared/protocol/api.ts';
import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { agentVolumePath } from '../hosts/agent-client.ts';
import { free } from '../jobs/kinds/free.ts';
import { defineAction, type Services } from './action.ts';
import { volumeAddress } from './addresses.ts';
import { findTrashed, trashAddress } from './trash.ts';
import {
  allowUsedField,
  changeVolume,
  referenceOf,
  refuseTaking,
  usersInTheWay,
  type VolumeAddress,
} from './volume.ts';

const limitField = { limitBytesPerSecond: z.number().positive().optional() };

/** Takes a volume out of its pool, and begins the job that overwrites what it held. */
export async function freeByJob(
  services: Services,
  address: VolumeAddress,
  { allowUsed, limitBytesPerSecond }: { allowUsed: boolean; limitBytesPerSecond?: number },
  actor: string,
): Promise<Job> {
  const json = { keepUntil: clock.now(), by: actor, wipe: true };
  // From now on it is overwritten before it goes, also where nobody is left to begin the job.
  const { id } = await changeVolume(services, address, `free by ${actor}`, (agent, right) =>
    agent.json(trashedVolumeSchema, `${agentVolumePath(address)}/trash`, {
      ...{ method: 'POST', json, ...right, allowUsed, patient: true },
    }),
  );
  await services.inventory.shows(address, undefined);
  return services.jobs.submit(free, { volume: referenceOf(address), id, limitBytesPerSecond }, actor);
}

/** Throws `volume-has-snapshots` for what would keep what is overwritten. */
export function refuseSnapshots(what: string, snapshotCount: number): void {
  if (snapshotCount === 0) return;
  throw new StowageError(
    'volume-has-snapshots',
    `${what} has ${snapshotCount} snapshots, and what they keep would not be overwritten; delete them first`,
  );
}

const freeVolume = defineAction({
  name: 'volume.free',
  summary:
    'Takes a volume out of its pool at once, and begins a job that overwrites what it held with zeros and deletes it.',
  role: 'operator',
  audited: true,
  input: volumeAddress.extend({ ...allowUsedField, ...limitField }),
  answer: jobSchema,
  async plan(services, input, { principal }) {
    const { snapshotCount } = await services.inventory.volume(input);
    refuseSnapshots(`'${referenceOf(input)}'`, snapshotCount);
    await refuseTaking(services, input, principal);
    return usersInTheWay(services, input, input.allowUsed);
  },
  record: (_input, users) => ({ detail: users }),
  async run(services, { allowUsed, limitBytesPerSecond, ...address }, { principal, note }) {
    const job = await freeByJob(services, address, { allowUsed, limitBytesPerSecond }, principal.name);
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
    const { name, snapshotCount } = (await findTrashed(services, address)).volume;
    refuseSnapshots(address.id, snapshotCount);
    return name;
  },
  record: ({ id }, volume) => ({ detail: `${id}, which was ${volume}` }),
  async run({ jobs }, { host, pool, id, limitBytesPerSecond }, { principal, note }, volume) {
    const params = { volume: `${host}/${pool}/${volume}`, id, limitBytesPerSecond };
    const job = await jobs.submit(free, params, principal.name);
    note(`job ${job.id}`);
    return job;
  },
});

export const freeingActions = [freeVolume, freeTrashed];
