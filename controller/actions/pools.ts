import { z } from 'zod';
import { formatCapabilities } from '../../shared/conf/capabilities-xml.ts';
import { orphanSchema, orphansSchema } from '../../shared/conf/orphan.ts';
import { type Pool, type PoolDefinition, poolSchema } from '../../shared/conf/pool.ts';
import { documentOf } from '../../shared/conf/pool-document.ts';
import { limitsText } from '../../shared/conf/pool-limits.ts';
import { poolForecastSchema } from '../../shared/conf/pool-usage.ts';
import { parsePool } from '../../shared/conf/pool-xml.ts';
import { formatSources, foundSourceSchema } from '../../shared/conf/sources-xml.ts';
import {
  agentInfoSchema,
  buildPoolSchema,
  definePoolSchema,
  poolLimitsBody,
  redefinePoolSchema,
} from '../../shared/protocol/agent.ts';
import {
  type FleetPool,
  fleetPoolSchema,
  heldLockSchema,
  poolDetailsSchema,
  spacePointSchema,
} from '../../shared/protocol/api.ts';
import { mayTouch, type Place } from '../../shared/protocol/rights.ts';
import { isStowageError } from '../../shared/util/errors.ts';
import { nameSchema } from '../../shared/util/names.ts';
import { type Action, defineAction, type Services } from './action.ts';
import { hostAddress, pageFields, poolAddress } from './addresses.ts';
import { historyFields } from './fleet.ts';

/** What a pool is made of may be anything on its host: who has the pool only may not choose it. */
const wholeHost = ({ host }: { host?: string }): Place[] => [{ host }];

/** The inventory shows a change as soon as its caller hears of it, not only when the agent's event comes. */
async function shown({ inventory }: Services, host: string, pool: Pool): Promise<FleetPool> {
  const volumeCount = await inventory.showsPool(host, pool);
  return { host, hostState: 'reachable', ...pool, volumeCount };
}

const agentPath = (pool: string): string => `/v1/pools/${encodeURIComponent(pool)}`;

const wordsOf = ({ type, target }: Pick<PoolDefinition, 'type' | 'target'>): string =>
  `${type} ${target.path ?? ''}`.trim();

/** What a pool logs in to its storage with, for its start; which secret that is goes on record. */
async function secretFor(
  { secrets }: Services,
  { host, pool }: { host: string; pool: string },
  { source: { auth } }: Pick<PoolDefinition, 'source'>,
  note: (text: string) => void,
): Promise<{ secret: string } | undefined> {
  if (!auth) return undefined;
  try {
    const { value, usage } = await secrets.valueFor(auth, host, pool);
    note(`with the secret ${usage}`);
    return { secret: value };
  } catch (error) {
    // Whether it can do without, such as by a keyring of its host, the agent knows.
    if (!isStowageError(error, 'secret-not-found')) throw error;
    return undefined;
  }
}

const list = defineAction({
  name: 'pool.list',
  summary: 'The pools of the fleet or of a host, by host and name, a page at a time.',
  role: 'viewer',
  input: z.object({
    host: nameSchema.optional(),
    ...pageFields,
    /** The last `host/pool` of the page before. */
    after: z.string().max(600).optional(),
  }),
  answer: z.array(fleetPoolSchema),
  places: ({ host }) => (host === undefined ? [] : [{ host }]),
  run: ({ inventory }, filter, { principal }) => inventory.pools({ ...filter, scopes: principal.scopes }),
});

const show = defineAction({
  name: 'pool.show',
  summary: 'A pool: what it is, its state and its space.',
  role: 'viewer',
  input: poolAddress,
  answer: poolDetailsSchema,
  async run({ inventory }, { host, pool }, { principal }) {
    const found = await inventory.pool(host, pool);
    const { storageId } = found;
    const same = storageId === undefined ? [] : await inventory.sharedPools(storageId);
    const others = same.filter((other) => other.host !== host || other.name !== pool);
    const visible = others.filter((other) =>
      mayTouch(principal, { host: other.host, pool: other.name }, 'look'),
    );
    return { ...found, sameStorage: visible.map((other) => `${other.host}/${other.name}`) };
  },
});

const history = defineAction({
  name: 'pool.history',
  summary: 'How the space of a pool was used. A point holds until the next one.',
  role: 'viewer',
  input: poolAddress.extend(historyFields),
  answer: z.array(spacePointSchema),
  run: ({ spaceHistory }, { host, pool, since }) => spaceHistory.since(since, `${host}/${pool}`),
});

const locks = defineAction({
  name: 'pool.locks',
  summary: 'Who may change or read which volume of a pool now, on whatever host that has the same storage.',
  role: 'viewer',
  input: poolAddress,
  answer: z.array(heldLockSchema),
  async run({ inventory, leases }, { host, pool }) {
    await inventory.pool(host, pool);
    return leases.on(host, pool);
  },
});

const document = defineAction({
  name: 'pool.dumpxml',
  summary: "A pool as libvirt's document.",
  role: 'viewer',
  input: poolAddress,
  answer: 'xml',
  async run({ inventory }, { host, pool: name }) {
    const pool = await inventory.pool(host, name);
    return documentOf(pool, pool);
  },
});

const capabilities = defineAction({
  name: 'pool.capabilities',
  summary: "Which pools a host can have, as libvirt's document.",
  role: 'viewer',
  input: hostAddress,
  answer: 'xml',
  async run({ fleet }, { host }) {
    const agent = await fleet.client(host);
    const { backends } = await agent.json(agentInfoSchema, '/v1/info');
    return formatCapabilities(backends.filter(({ usable }) => usable));
  },
});

const findSources = defineAction({
  name: 'pool.find-sources',
  summary: "What a pool of a type could be made of on a host, as libvirt's document.",
  role: 'operator',
  audited: true,
  input: hostAddress.extend({
    type: nameSchema,
    /** Another host to look on. */
    sourceHost: z.string().max(255).optional(),
  }),
  answer: 'xml',
  record: ({ type, sourceHost }) => ({
    detail: sourceHost === undefined ? type : `${type} on ${sourceHost}`,
  }),
  async run({ fleet }, { host, type, sourceHost }) {
    const agent = await fleet.client(host);
    const query = sourceHost === undefined ? '' : `?host=${encodeURIComponent(sourceHost)}`;
    const path = `/v1/sources/${encodeURIComponent(type)}${query}`;
    return formatSources(await agent.json(z.array(foundSourceSchema), path));
  },
});

const create = defineAction({
  name: 'pool.create',
  summary:
    "Defines, builds and starts a pool, from fields or from libvirt's document; after an error none of it is left.",
  role: 'admin',
  audited: true,
  input: definePoolSchema.extend({
    ...hostAddress.shape,
    /** Make the storage, such as the directory, before the pool is started. */
    build: z.boolean().default(true),
    ...buildPoolSchema.shape,
    start: z.boolean().default(true),
  }),
  answer: fleetPoolSchema,
  places: wholeHost,
  document: async (_services, { xml }) => parsePool(xml),
  record: ({ host, overwrite, ...definition }) => ({
    target: `${host}/${definition.name}`,
    detail: overwrite ? `${wordsOf(definition)}, what is there is overwritten` : wordsOf(definition),
  }),
  async run(services, { host, build, overwrite, start, ...definition }, { note }) {
    const agent = await services.fleet.client(host);
    let pool = await agent.json(poolSchema, '/v1/pools', { method: 'POST', json: definition });
    const path = agentPath(pool.name);
    try {
      if (build) await agent.send(`${path}/build`, { method: 'POST', json: { overwrite, ifAny: true } });
      if (start) {
        const json = await secretFor(services, { host, pool: pool.name }, pool, note);
        pool = await agent.json(poolSchema, `${path}/start`, { method: 'POST', json });
      }
    } catch (error) {
      await agent.send(path, { method: 'DELETE' }).catch(() => undefined);
      throw error;
    }
    return shown(services, host, pool);
  },
});

const redefine = defineAction({
  name: 'pool.redefine',
  summary: 'Replaces what a stopped pool is.',
  role: 'admin',
  audited: true,
  input: redefinePoolSchema.extend(poolAddress.shape),
  answer: fleetPoolSchema,
  places: wholeHost,
  /** A document cannot say whether the pool starts by itself: it does as before, unless told. */
  async document({ inventory }, { xml, host, pool, autostart }) {
    const now = autostart ?? (await inventory.pool(String(host), String(pool))).autostart;
    return { ...parsePool(xml), autostart: now };
  },
  record: (definition) => ({ detail: wordsOf(definition) }),
  async run(services, { host, pool, ...definition }) {
    const agent = await services.fleet.client(host);
    const options = { method: 'PUT', json: definition };
    return shown(services, host, await agent.json(poolSchema, agentPath(pool), options));
  },
});

const build = defineAction({
  name: 'pool.build',
  summary: 'Makes the storage of a stopped pool: its directory, its file system, its volume group.',
  // It may destroy what is there.
  role: 'admin',
  audited: true,
  input: poolAddress.extend(buildPoolSchema.shape),
  answer: 'nothing',
  places: wholeHost,
  record: ({ overwrite }) => ({ detail: overwrite ? 'what is there is overwritten' : undefined }),
  async run({ fleet }, { host, pool, overwrite }) {
    const agent = await fleet.client(host);
    await agent.send(`${agentPath(pool)}/build`, { method: 'POST', json: { overwrite }, patient: true });
  },
});

const limit = defineAction({
  name: 'pool.limit',
  summary: 'Says from when on a pool counts as nearly full, and how much its volumes may have together.',
  role: 'operator',
  audited: true,
  input: poolAddress.extend(poolLimitsBody.shape),
  answer: fleetPoolSchema,
  record: ({ limits }) => ({ detail: limits ? limitsText(limits) : 'the usual limits' }),
  async run(services, { host, pool, limits }) {
    const agent = await services.fleet.client(host);
    const options = { method: 'PUT', json: { limits } };
    return shown(services, host, await agent.json(poolSchema, `${agentPath(pool)}/limits`, options));
  },
});

const forecast = defineAction({
  name: 'pool.forecast',
  summary: 'How fast a pool fills up, and when it will be full, by what its host saw in the last days.',
  role: 'viewer',
  input: poolAddress,
  answer: poolForecastSchema,
  async run({ fleet }, { host, pool }) {
    const agent = await fleet.client(host);
    return agent.json(poolForecastSchema, `${agentPath(pool)}/forecast`);
  },
});

const orphans = defineAction({
  name: 'pool.orphans',
  summary: 'What lies in a pool and is no volume of anybody, with what is known of it; nothing is changed.',
  role: 'operator',
  audited: true,
  input: poolAddress,
  answer: z.array(orphanSchema.extend({ madeBy: z.string().optional() })),
  async run({ fleet, leftovers }, { host, pool }) {
    const agent = await fleet.client(host);
    const found = await agent.json(orphansSchema, `${agentPath(pool)}/orphans`, { patient: true });
    await leftovers.note(host, pool, found);
    const names = await fleet.namesOfAgents(found.flatMap(({ agentId = [] }) => agentId));
    const madeBy = (agentId: string): string =>
      names.get(agentId) ?? `agent ${agentId}, of no host known here`;
    return found.map((orphan) => ({
      ...orphan,
      madeBy: orphan.agentId === undefined ? undefined : madeBy(orphan.agentId),
    }));
  },
});

function lifeAction(what: 'start' | 'stop' | 'refresh', summary: string): Action {
  return defineAction({
    name: `pool.${what}`,
    summary,
    role: 'operator',
    audited: true,
    input: poolAddress,
    answer: fleetPoolSchema,
    async plan({ leases }, { host, pool }) {
      if (what === 'stop') await leases.refuseHeld(`${host}/${pool}`);
    },
    async run(services, { host, pool }, { note }) {
      const agent = await services.fleet.client(host);
      const path = `${agentPath(pool)}/${what}`;
      // What the agent itself says that it needs.
      const json =
        what === 'start'
          ? await secretFor(services, { host, pool }, await agent.json(poolSchema, agentPath(pool)), note)
          : undefined;
      const options = { method: 'POST', json, patient: true };
      return shown(services, host, await agent.json(poolSchema, path, options));
    },
  });
}

const remove = defineAction({
  name: 'pool.delete',
  summary: 'Undefines a stopped pool; its empty directory goes only when that is asked for.',
  role: 'admin',
  audited: true,
  input: poolAddress.extend({ storage: z.boolean().default(false) }),
  answer: 'nothing',
  places: wholeHost,
  record: ({ storage }) => ({ detail: storage ? 'with its directory' : undefined }),
  async run({ fleet }, { host, pool, storage }) {
    const agent = await fleet.client(host);
    if (storage) await agent.send(`${agentPath(pool)}/delete`, { method: 'POST' });
    await agent.send(agentPath(pool), { method: 'DELETE' });
  },
});

export const poolActions = [
  list,
  show,
  history,
  document,
  capabilities,
  findSources,
  locks,
  create,
  redefine,
  build,
  limit,
  forecast,
  orphans,
  lifeAction('start', 'Makes the storage of a pool available on its host, such as by mounting it.'),
  lifeAction('stop', 'Lets go of the storage of a pool; what is on it stays.'),
  lifeAction('refresh', 'Looks at everything in a pool again.'),
  remove,
];
