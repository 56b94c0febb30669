import { z } from 'zod';
import { isPoolType } from '../../shared/conf/pool-types.ts';
import {
  findingSchema,
  newVolumeSchema,
  snapshotSchema,
  type Volume,
  volumeFormatSchema,
  volumeSchema,
} from '../../shared/conf/volume.ts';
import { documentOfVolume, newVolumeOf } from '../../shared/conf/volume-document.ts';
import { formatVolume, parseVolume } from '../../shared/conf/volume-xml.ts';
import { XML_TYPE } from '../../shared/conf/xml/write.ts';
import { resizeVolumeSchema, snapshotBodySchema, wipeVolumeSchema } from '../../shared/protocol/agent.ts';
import { volumeUserSchema } from '../../shared/protocol/domains.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { nameSchema, splitReference } from '../../shared/util/names.ts';
import type { Parts } from '../controller.ts';
import { type AgentClient, agentVolumePath } from '../hosts/agent-client.ts';
import { migrate, migrateParamsSchema } from '../jobs/migrate.ts';
import { clone, wipe } from '../jobs/volume-jobs.ts';
import { type ApiHttp, wantsXml } from './http.ts';
import { poolParams } from './pool-routes.ts';

export const volumeParams = poolParams.extend({ volume: nameSchema });

const listQuery = z.object({
  host: nameSchema.optional(),
  pool: nameSchema.optional(),
  name: nameSchema.optional(),
  id: z.uuid().optional(),
  format: volumeFormatSchema.optional(),
  limit: z.coerce.number().int().min(1).max(10_000).default(1000),
  /** The last `host/pool/volume` of the page before. */
  after: z.string().max(800).optional(),
});

/** The target is `HOST/POOL` or `HOST/POOL/VOLUME`. */
const migrateBody = migrateParamsSchema.omit({ source: true }).extend({ target: z.string().max(800) });

/** `allowUsed`: go ahead although domains use the volume; their names are put on record. */
const usedQuery = z.object({ allowUsed: z.stringbool().default(false) });
const deleteQuery = usedQuery.extend({ deleteSnapshots: z.stringbool().default(false) });

interface VolumeAddress {
  host: string;
  pool: string;
  volume: string;
}

export const referenceOf = ({ host, pool, volume }: VolumeAddress): string => `${host}/${pool}/${volume}`;

/** Volumes: look, make, change, delete, and the jobs that move and copy them. */
export function volumeRoutes(http: ApiHttp, { fleet, inventory, leases, jobs }: Parts): void {
  const tags = ['volumes'];
  const path = '/api/v1/hosts/:host/pools/:pool/volumes';

  /** Runs a short change under a lease of its own, held until the agent has answered. */
  const change = async <T>(
    address: VolumeAddress,
    holder: string,
    work: (agent: AgentClient, fence: number) => Promise<T>,
  ): Promise<T> => {
    const agent = await fleet.client(address.host);
    await using lease = await leases.acquire(referenceOf(address), 'write', holder);
    return await work(agent, lease.token);
  };
  /**
   * Before a volume is taken from its users: without `allowUsed` refused while there are any, with it the names that the
   * change goes over, for its record.
   */
  const goneOver = async (address: VolumeAddress, allowUsed: boolean): Promise<string> => {
    const agent = await fleet.client(address.host);
    if (!allowUsed) {
      await agent.send(`${agentVolumePath(address)}/refuse-used`, { method: 'POST' });
      return '';
    }
    const users = await agent.json(z.array(volumeUserSchema), `${agentVolumePath(address)}/users`);
    const names = users.map(({ domain, target }) => `${domain} (${target})`);
    return names.length > 0 ? `although used by ${names.join(', ')}` : 'although it might be used';
  };
  const detail = (...parts: string[]): string => parts.filter((part) => part !== '').join(', ');

  /** The inventory shows a change as soon as its caller hears of it, not only when the agent's event comes. */
  const show = async (address: VolumeAddress, volume: Volume): Promise<Volume> => {
    await inventory.shows(address.host, address.pool, volume.name, volume.etag);
    return volume;
  };

  http.get(
    '/api/v1/volumes',
    { config: { role: 'viewer' }, schema: { tags, querystring: listQuery } },
    async (request) => {
      const { host, pool } = request.query;
      // A list of what is in no pool is no empty list.
      if (host !== undefined) await fleet.row(host);
      if (host !== undefined && pool !== undefined) await inventory.knownPool(host, pool);
      return inventory.volumes(request.query);
    },
  );
  http.get(
    `${path}/:volume`,
    { config: { role: 'viewer' }, schema: { tags, params: volumeParams } },
    async (request, reply) => {
      const { host, pool, volume } = request.params;
      const found = await inventory.volume(host, pool, volume);
      if (wantsXml(request))
        return reply
          .type(XML_TYPE)
          .send(formatVolume(documentOfVolume(await inventory.wholeVolume(host, pool, volume))));
      const agent = await fleet.client(host);
      return {
        ...found,
        usedBy: await leases.holders(referenceOf(request.params)),
        // Unknown while the host cannot be asked.
        domains: await agent
          .json(z.array(volumeUserSchema), `${agentVolumePath(request.params)}/users`)
          .catch(() => undefined),
      };
    },
  );

  http.post(
    path,
    {
      config: { role: 'operator', audit: 'volume.create' },
      schema: { tags, params: poolParams, body: newVolumeSchema },
      // Who may not do this has been refused before: only now is a document read.
      preValidation: async (request) => {
        if (typeof request.body !== 'string') return;
        const { host, pool } = request.params as z.output<typeof poolParams>;
        const { type } = await inventory.pool(host, pool);
        const document = parseVolume(request.body, { pool: isPoolType(type) ? type : 'dir' });
        // Validated next, as any body is.
        request.body = newVolumeOf(document) as typeof request.body;
      },
    },
    async (request, reply) => {
      const address = { ...request.params, volume: request.body.name };
      request.note = {
        target: referenceOf(address),
        detail: `${request.body.format}, ${request.body.capacityBytes} bytes`,
      };
      const volume = await change(address, `create by ${request.actor.name}`, (agent, fence) =>
        agent.json(volumeSchema, `/v1/pools/${encodeURIComponent(address.pool)}/volumes`, {
          method: 'POST',
          json: request.body,
          fence,
          patient: true,
        }),
      );
      return reply.code(201).send(await show(address, volume));
    },
  );

  http.delete(
    `${path}/:volume`,
    {
      config: { role: 'operator', audit: 'volume.delete' },
      schema: { tags, params: volumeParams, querystring: deleteQuery },
    },
    async (request, reply) => {
      const { allowUsed, deleteSnapshots } = request.query;
      const { host, pool, volume } = request.params;
      const over = await goneOver(request.params, allowUsed);
      request.note = { detail: detail(deleteSnapshots ? 'with its snapshots' : '', over) };
      await change(request.params, `delete by ${request.actor.name}`, (agent, fence) =>
        agent.send(`${agentVolumePath(request.params)}?deleteSnapshots=${deleteSnapshots}`, {
          method: 'DELETE',
          fence,
          allowUsed,
          patient: true,
        }),
      );
      await inventory.shows(host, pool, volume, undefined);
      return reply.code(204).send();
    },
  );

  http.post(
    `${path}/:volume/resize`,
    {
      config: { role: 'operator', audit: 'volume.resize' },
      schema: { tags, params: volumeParams, querystring: usedQuery, body: resizeVolumeSchema },
    },
    async (request) => {
      const { allowUsed } = request.query;
      const over = request.body.shrink ? await goneOver(request.params, allowUsed) : '';
      request.note = { detail: detail(`to ${request.body.capacityBytes} bytes`, over) };
      const volume = await change(request.params, `resize by ${request.actor.name}`, (agent, fence) =>
        agent.json(volumeSchema, `${agentVolumePath(request.params)}/resize`, {
          method: 'POST',
          json: request.body,
          fence,
          allowUsed,
          patient: true,
        }),
      );
      return show(request.params, volume);
    },
  );

  /** What is wrong with a volume; nothing is changed. */
  http.post(
    `${path}/:volume/check`,
    { config: { role: 'viewer', audit: 'volume.check' }, schema: { tags, params: volumeParams } },
    async (request) => {
      const agent = await fleet.client(request.params.host);
      return agent.json(z.array(findingSchema), `${agentVolumePath(request.params)}/check`, {
        method: 'POST',
        json: { repair: false },
        patient: true,
      });
    },
  );
  /** Mends what can be mended; the answer is what was wrong. */
  http.post(
    `${path}/:volume/repair`,
    { config: { role: 'operator', audit: 'volume.repair' }, schema: { tags, params: volumeParams } },
    (request) =>
      change(request.params, `repair by ${request.actor.name}`, (agent, fence) =>
        agent.json(z.array(findingSchema), `${agentVolumePath(request.params)}/check`, {
          method: 'POST',
          json: { repair: true },
          fence,
          patient: true,
        }),
      ),
  );

  // ---- snapshots ----

  http.get(
    `${path}/:volume/snapshots`,
    { config: { role: 'viewer' }, schema: { tags, params: volumeParams } },
    async (request) => {
      const agent = await fleet.client(request.params.host);
      return agent.json(z.array(snapshotSchema), `${agentVolumePath(request.params)}/snapshots`);
    },
  );
  http.post(
    `${path}/:volume/snapshots`,
    {
      config: { role: 'operator', audit: 'snapshot.create' },
      schema: { tags, params: volumeParams, body: snapshotBodySchema },
    },
    async (request, reply) => {
      const made = await change(request.params, `snapshot by ${request.actor.name}`, (agent, fence) =>
        agent.json(z.object({ id: z.string() }), `${agentVolumePath(request.params)}/snapshots`, {
          method: 'POST',
          json: request.body,
          fence,
          patient: true,
        }),
      );
      request.note = { detail: made.id };
      return reply.code(201).send(made);
    },
  );
  const snapshotParams = volumeParams.extend({ snapshot: z.string().max(64) });
  const snapshotPath = (address: VolumeAddress, snapshot: string): string =>
    `${agentVolumePath(address)}/snapshots/${encodeURIComponent(snapshot)}`;
  http.post(
    `${path}/:volume/snapshots/:snapshot/switch`,
    {
      config: { role: 'operator', audit: 'snapshot.switch' },
      schema: { tags, params: snapshotParams, querystring: usedQuery },
    },
    async (request, reply) => {
      const { allowUsed } = request.query;
      const over = await goneOver(request.params, allowUsed);
      request.note = { detail: detail(request.params.snapshot, over) };
      await change(request.params, `snapshot switch by ${request.actor.name}`, (agent, fence) =>
        agent.send(`${snapshotPath(request.params, request.params.snapshot)}/switch`, {
          method: 'POST',
          fence,
          allowUsed,
          patient: true,
        }),
      );
      return reply.code(204).send();
    },
  );
  http.delete(
    `${path}/:volume/snapshots/:snapshot`,
    { config: { role: 'operator', audit: 'snapshot.delete' }, schema: { tags, params: snapshotParams } },
    async (request, reply) => {
      request.note = { detail: request.params.snapshot };
      await change(request.params, `snapshot delete by ${request.actor.name}`, (agent, fence) =>
        agent.send(snapshotPath(request.params, request.params.snapshot), {
          method: 'DELETE',
          fence,
          patient: true,
        }),
      );
      return reply.code(204).send();
    },
  );

  // ---- jobs on a volume ----

  http.post(
    `${path}/:volume/wipe`,
    {
      config: { role: 'operator', audit: 'volume.wipe' },
      schema: { tags, params: volumeParams, querystring: usedQuery, body: wipeVolumeSchema },
    },
    async (request, reply) => {
      const { allowUsed } = request.query;
      const over = await goneOver(request.params, allowUsed);
      await inventory.volume(request.params.host, request.params.pool, request.params.volume);
      const job = await jobs.submit(
        wipe,
        { volume: referenceOf(request.params), allowUsed, ...request.body },
        request.actor.name,
      );
      request.note = { detail: detail(`job ${job.id}`, over) };
      return reply.code(202).send(job);
    },
  );

  const cloneBody = z.object({ name: nameSchema });
  http.post(
    `${path}/:volume/clone`,
    {
      config: { role: 'operator', audit: 'volume.clone' },
      schema: { tags, params: volumeParams, body: cloneBody },
    },
    async (request, reply) => {
      const { host, pool, volume } = request.params;
      await inventory.volume(host, pool, volume);
      const target = { host, pool, volume: request.body.name };
      const job = await jobs.submit(
        clone,
        { source: referenceOf(request.params), target: referenceOf(target) },
        request.actor.name,
      );
      request.note = { detail: `to ${request.body.name}, job ${job.id}` };
      return reply.code(202).send(job);
    },
  );

  http.post(
    `${path}/:volume/migrate`,
    {
      config: { role: 'operator', audit: 'volume.migrate' },
      schema: { tags, params: volumeParams, body: migrateBody },
    },
    async (request, reply) => {
      const { target, ...options } = request.body;
      const [host, pool, name = request.params.volume] = splitReference(target);
      if (!host || !pool)
        throw new StowageError('invalid-argument', 'the target is HOST/POOL or HOST/POOL/VOLUME');
      const source = referenceOf(request.params);
      const destination = referenceOf({ host, pool, volume: name });
      if (source === destination)
        throw new StowageError('invalid-argument', 'the target is the volume itself');
      await inventory.volume(request.params.host, request.params.pool, request.params.volume);
      await inventory.pool(host, pool);
      const over = options.keepSource ? '' : await goneOver(request.params, options.allowUsed);
      const job = await jobs.submit(migrate, { source, target: destination, ...options }, request.actor.name);
      request.note = { detail: detail(`to ${destination}`, `job ${job.id}`, over) };
      return reply.code(202).send(job);
    },
  );
}
