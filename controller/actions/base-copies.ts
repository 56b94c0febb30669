import pLimit from 'p-limit';
import { z } from 'zod';
import { volumeSchema } from '../../shared/conf/volume.ts';
import { poolTraitsSchema } from '../../shared/protocol/agent.ts';
import { fleetVolumeSchema, type Job, jobSchema } from '../../shared/protocol/api.ts';
import { baseNameIn, namingOf, pveVolume } from '../../shared/pve/images.ts';
import { isStowageError, StowageError } from '../../shared/util/errors.ts';
import { hashedUuid } from '../../shared/util/hashed-uuid.ts';
import { nameSchema } from '../../shared/util/names.ts';
import { splitReference } from '../../shared/util/references.ts';
import { type AgentClient, agentVolumePath } from '../hosts/agent-client.ts';
import { migrate } from '../jobs/kinds/migrate.ts';
import { type MigrateParams, migrateParamsSchema } from '../jobs/kinds/migration-spec.ts';
import { defineAction, type Services } from './action.ts';
import { volumeAddress } from './addresses.ts';
import { referenceOf, shown, type VolumeAddress, volumeIfKnown } from './volume.ts';

const oneByOne = pLimit(1);

/** The copy of a base that a transfer has brought, where it is there and still a base. */
async function madeBefore(agent: AgentClient, pool: string, transfer: string) {
  const path = `/v1/pools/${encodeURIComponent(pool)}/transferred/${transfer}`;
  const volume = await agent.json(volumeSchema, path).catch((error) => {
    if (!isStowageError(error, 'volume-not-found')) throw error;
    return undefined;
  });
  return volume?.isBase ? volume : undefined;
}

async function requireBases(agent: AgentClient, pool: string): Promise<void> {
  const { features } = await agent.json(poolTraitsSchema, `/v1/pools/${encodeURIComponent(pool)}/traits`);
  if (!features.base || !features.link?.includes('base'))
    throw new StowageError('not-supported', `pool '${pool}' has no bases that linked clones could stand on`);
}

/** The job that copies the same base to the same place already; undefined where there is none. */
async function underWay({ jobs }: Services, transfer: string): Promise<Job | undefined> {
  return (await jobs.unended(migrate.kind)).find(({ params }) => params.baseTransfer === transfer);
}

/** Throws `volume-exists` where something else is called so. */
async function begin(
  services: Services,
  to: VolumeAddress,
  params: MigrateParams,
  actor: string,
): Promise<Job> {
  if (await volumeIfKnown(services, to))
    throw new StowageError(
      'volume-exists',
      `'${referenceOf(to)}' is another volume, such as a copy of the base as it was before; call the new copy otherwise (--base-name)`,
    );
  return services.jobs.submit(migrate, params, actor);
}

/** Of a base, so that linked clones of it can be made elsewhere. */
const copyBase = defineAction({
  name: 'image.copy-base',
  summary: 'Finds the copy of a base in another pool, or begins a job that makes one, which is a base too.',
  role: 'operator',
  audited: true,
  input: volumeAddress.extend({
    /** `HOST/POOL`. */
    target: z.string().max(800),
    /** What the copy is called; as the base when not given. */
    name: nameSchema.optional(),
  }),
  /** One of them: the copy that was made before, or the job. */
  answer: z.object({ volume: fleetVolumeSchema.optional(), job: jobSchema.optional() }),
  places({ host, pool, target }) {
    const [toHost, toPool] = target === undefined ? [] : splitReference(target);
    return [{ host, pool }, ...(target === undefined ? [] : [{ host: toHost, pool: toPool }])];
  },
  async plan(services, { target, name, ...address }) {
    const [host, pool, more] = splitReference(target);
    if (host === undefined || pool === undefined || more !== undefined)
      throw new StowageError('invalid-argument', `'${target}' is not HOST/POOL`);
    if (host === address.host && pool === address.pool)
      throw new StowageError(
        'invalid-argument',
        `the base is in pool '${target}' already: clone it there, without a copy`,
      );
    const { isBase, format } = await services.inventory.volume(address);
    if (!isBase) throw new StowageError('invalid-argument', `'${referenceOf(address)}' is no base`);
    const naming = namingOf(await services.inventory.pool(host, pool));
    const from = namingOf(await services.inventory.pool(address.host, address.pool));
    const parsed = pveVolume(from, address.volume);
    if (!parsed?.isBase)
      throw new StowageError('invalid-name', `'${address.volume}' is no name of a base in Proxmox VE`);
    const made = baseNameIn(naming, parsed, format);
    const to = { host, pool, volume: name ?? made.name };
    if (!pveVolume(naming, to.volume)?.isBase)
      throw new StowageError('invalid-name', `'${to.volume}' is no name of a base in pool '${pool}'`);
    await requireBases(await services.fleet.client(host), pool);
    return { to, format: made.format };
  },
  record: (_input, { to }) => ({ detail: `to ${referenceOf(to)}` }),
  async run(services, { target: _, name: __, ...address }, { principal, note }, { to, format }) {
    const { fleet } = services;
    const sender = await fleet.client(address.host);
    const { baseId, etag } = await sender.json(volumeSchema, agentVolumePath(address));
    // A base holds the same for as long as it is one.
    const baseTransfer = hashedUuid(`base ${baseId ?? etag} in ${to.host}/${to.pool}`);
    const sink = await fleet.client(to.host);
    const [source, target] = [referenceOf(address), referenceOf(to)];
    const params = migrateParamsSchema.parse({ source, target, keepSource: true, format, baseTransfer });
    // Nobody looks while somebody begins: two would carry one id.
    const { volume, job } = await oneByOne(async () => {
      const other = await underWay(services, baseTransfer);
      const before = other ? undefined : await madeBefore(sink, to.pool, baseTransfer);
      if (before) return { volume: before };
      return { job: other ?? (await begin(services, to, params, principal.name)) };
    });
    note(volume ? `it is there, as ${volume.name}` : `job ${job?.id}`);
    return volume ? { volume: await shown(services, to, volume) } : { job };
  },
});

export const baseCopyActions = [copyBase];
