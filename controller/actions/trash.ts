import { z } from 'zod';
import { type TrashedVolume, trashedVolumeSchema, trashIdSchema } from '../../shared/conf/trash.ts';
import { volumeSchema } from '../../shared/conf/volume.ts';
import { trashPlaceSchema } from '../../shared/protocol/agent.ts';
import { fleetVolumeSchema } from '../../shared/protocol/api.ts';
import { nameSchema } from '../../shared/util/names.ts';
import { defineAction, type Services } from './action.ts';
import { poolAddress } from './addresses.ts';
import { changeVolume, listed, shown } from './volume.ts';

type PoolAddress = z.infer<typeof poolAddress>;

export const trashAddress = poolAddress.extend({ id: trashIdSchema });
const agentPath = ({ pool }: PoolAddress, id = ''): string =>
  `/v1/pools/${encodeURIComponent(pool)}/trash${id && `/${id}`}`;

/** What is in a trash. Throws `volume-not-found`. */
export async function findTrashed(
  { fleet }: Services,
  { id, ...address }: z.infer<typeof trashAddress>,
): Promise<TrashedVolume> {
  const agent = await fleet.client(address.host);
  return agent.json(trashedVolumeSchema, agentPath(address, id));
}

const list = defineAction({
  name: 'trash.list',
  summary: 'The volumes in the trash of a pool, the oldest first, a page at a time.',
  role: 'viewer',
  input: poolAddress.extend({
    limit: z.number().int().min(1).max(1000).default(1000),
    /** `TRASHEDAT-ID` of the last of the page before. */
    after: trashPlaceSchema.optional(),
  }),
  answer: z.array(trashedVolumeSchema),
  async run({ fleet }, { limit, after, ...address }) {
    const agent = await fleet.client(address.host);
    const query = `?limit=${limit}${after === undefined ? '' : `&after=${after}`}`;
    return agent.json(z.array(trashedVolumeSchema), `${agentPath(address)}${query}`);
  },
});

const restore = defineAction({
  name: 'trash.restore',
  summary: 'Gives a volume in the trash its name again, or another one; it is the same volume.',
  role: 'operator',
  audited: true,
  input: trashAddress.extend({ name: nameSchema.optional() }),
  answer: fleetVolumeSchema,
  plan: async (services, { name, ...address }) => name ?? (await findTrashed(services, address)).volume.name,
  record: ({ host, pool, id }, volume) => ({
    target: `${host}/${pool}/${volume}`,
    detail: `${id} out of the trash`,
  }),
  async run(services, { name: _name, ...address }, { principal }, volume) {
    const target = { host: address.host, pool: address.pool, volume };
    const restored = await changeVolume(services, target, `restore by ${principal.name}`, (agent, right) =>
      agent.json(volumeSchema, `${agentPath(address, address.id)}/restore`, {
        ...{ method: 'POST', json: { name: volume }, ...right, patient: true },
      }),
    );
    return shown(services, target, restored);
  },
});

const purge = defineAction({
  name: 'trash.purge',
  summary: 'Deletes a volume in the trash for ever, with its snapshots.',
  role: 'operator',
  audited: true,
  input: trashAddress.extend({
    /** Also what is to be overwritten before, and is not, such as on a disk that fails. */
    unwiped: z.boolean().default(false),
  }),
  answer: 'nothing',
  plan: async (services, { unwiped: _, ...address }) => (await findTrashed(services, address)).volume.name,
  record: ({ id, unwiped }, volume) => ({
    detail: listed(`${id}, which was ${volume}`, unwiped ? 'also where it is not overwritten' : ''),
  }),
  async run({ fleet }, { unwiped, ...address }) {
    const agent = await fleet.client(address.host);
    await agent.send(`${agentPath(address, address.id)}?unwiped=${unwiped}`, {
      method: 'DELETE',
      patient: true,
    });
  },
});

export const trashActions = [list, restore, purge];
