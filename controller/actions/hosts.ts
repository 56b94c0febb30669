import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { z } from 'zod';
import { nodeDevicesSchema } from '../../shared/conf/node-device.ts';
import { agentInfoSchema, doctorFindingSchema } from '../../shared/protocol/agent.ts';
import {
  agentFileSchema,
  enrolmentSchema,
  hostDetailsSchema,
  hostSchema,
  labelSchema,
} from '../../shared/protocol/api.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { nameSchema } from '../../shared/util/names.ts';
import { defineAction } from './action.ts';
import { hostAddress, pageFields } from './addresses.ts';

/** A scope that begins with @ is a label. */
const newHostName = nameSchema.refine(
  (name) => !name.startsWith('@'),
  'the name of a host does not begin with @',
);

const list = defineAction({
  name: 'host.list',
  summary: 'The hosts, how they are reached, and whether they are, by name, a page at a time.',
  role: 'viewer',
  input: z.object({ label: labelSchema.optional(), ...pageFields, after: nameSchema.optional() }),
  answer: z.array(hostSchema),
  places: () => [],
  run: ({ fleet }, page, { principal }) => fleet.list({ ...page, scopes: principal.scopes }),
});

const show = defineAction({
  name: 'host.show',
  summary: 'A host, and what its agent says of itself.',
  role: 'viewer',
  input: hostAddress,
  answer: hostDetailsSchema,
  async run({ fleet }, { host: name }) {
    const host = await fleet.get(name);
    if (host.state !== 'reachable') return host;
    const agent = await fleet.client(name);
    return { ...host, agent: await agent.json(agentInfoSchema, '/v1/info').catch(() => undefined) };
  },
});

const doctor = defineAction({
  name: 'host.doctor',
  summary: 'What a host has and lacks.',
  role: 'viewer',
  input: hostAddress,
  answer: z.array(doctorFindingSchema),
  async run({ fleet }, { host }) {
    const agent = await fleet.client(host);
    return agent.json(z.array(doctorFindingSchema), '/v1/doctor');
  },
});

const devices = defineAction({
  name: 'host.devices',
  summary:
    'What pools of a host could be made of: disks, adapters, volume groups, and what a server gives out.',
  role: 'operator',
  audited: true,
  input: hostAddress.extend({
    /** Another host to look on. */
    server: z
      .string()
      .regex(/^(?!-)[\w.:-]{1,253}$/)
      .optional(),
  }),
  answer: nodeDevicesSchema,
  record: ({ server }) => ({ detail: server }),
  async run({ fleet }, { host, server }) {
    const agent = await fleet.client(host);
    const query = server === undefined ? '' : `?server=${encodeURIComponent(server)}`;
    return agent.json(nodeDevicesSchema, `/v1/devices${query}`, { patient: true });
  },
});

const add = defineAction({
  name: 'host.add',
  summary: 'Adds a host that is reached by SSH, and puts the agent on it.',
  role: 'admin',
  audited: true,
  input: z.object({
    name: newHostName,
    user: z.string().regex(/^[a-z_][a-z0-9_.-]{0,31}$/i),
    hostname: z.string().regex(/^(?!-)[\w.:-]{1,253}$/),
    port: z.number().int().min(1).max(65535).default(22),
    /** Paths of private key files on the controller, tried first. */
    identities: z.array(z.string().max(4096)).max(16).default([]),
    /** Try nothing but them. */
    identitiesOnly: z.boolean().default(false),
    fingerprint: z
      .string()
      .regex(/^SHA256:[A-Za-z0-9+/]{43}$/)
      .optional(),
    acceptNew: z.boolean().default(false),
  }),
  answer: hostSchema,
  places: () => [{}],
  record: ({ name, user, hostname, port, fingerprint }) => ({
    target: name,
    detail: `${user}@${hostname}:${port}, ${fingerprint ?? 'whatever key it shows'}`,
  }),
  async run({ fleet }, { name, fingerprint, acceptNew, ...address }, { note }) {
    const host = await fleet.addSsh(name, address, { fingerprint, acceptNew });
    if (fingerprint === undefined && host.link.kind === 'ssh') note(host.link.fingerprint);
    return host;
  },
});

const invite = defineAction({
  name: 'host.invite',
  summary: 'Makes a one-time token with which an agent may dial in as a host.',
  role: 'admin',
  audited: true,
  input: z.object({
    host: newHostName,
    /** Also where an agent is enrolled as this host already, whose place is taken then. */
    replace: z.boolean().default(false),
  }),
  answer: enrolmentSchema,
  places: () => [{}],
  record: ({ replace }) => ({ detail: replace ? 'in place of the agent that is enrolled' : undefined }),
  run: async ({ fleet }, { host, replace }, { origin = '', isSelfSigned = false }) => ({
    ...(await fleet.enrol(host, { replace })),
    ...{ url: origin, isSelfSigned },
  }),
});

const label = defineAction({
  name: 'host.label',
  summary: 'Gives a host labels, or takes them away; tokens may be limited to the hosts that have one.',
  role: 'admin',
  audited: true,
  input: hostAddress.extend({
    add: z.array(labelSchema).max(64).default([]),
    remove: z.array(labelSchema).max(64).default([]),
  }),
  answer: hostSchema,
  // It decides who may touch the host.
  places: () => [{}],
  record: ({ add, remove: gone }) => ({
    detail: [...add.map((each) => `+${each}`), ...gone.map((each) => `-${each}`)].join(' '),
  }),
  run: ({ fleet }, { host, ...change }) => fleet.label(host, change),
});

const remove = defineAction({
  name: 'host.remove',
  summary: 'Forgets a host; its pools and volumes stay on it.',
  role: 'admin',
  audited: true,
  input: hostAddress,
  answer: 'nothing',
  plan: ({ leases }, { host }) => leases.refuseHeld(host),
  run: ({ fleet }, { host }) => fleet.remove(host),
});

const agentFiles = defineAction({
  name: 'agent.list',
  summary: 'The files of an agent, to carry to a host that dials in, with their digests.',
  role: 'viewer',
  input: z.object({}),
  answer: z.array(agentFileSchema),
  places: () => [],
  run: async ({ fleet }) =>
    [...(await fleet.agentFiles())].map(([name, bytes]) => ({
      name,
      sizeBytes: bytes.length,
      sha256: createHash('sha256').update(bytes).digest('hex'),
    })),
});

const agentFile = defineAction({
  name: 'agent.download',
  summary: 'A file of an agent.',
  role: 'viewer',
  input: z.object({ file: nameSchema }),
  answer: 'bytes',
  places: () => [],
  async run({ fleet }, { file }) {
    const bytes = (await fleet.agentFiles()).get(file);
    if (!bytes) throw new StowageError('route-not-found', `an agent has no file '${file}'`);
    return { body: Readable.from([bytes]), contentType: 'application/octet-stream' };
  },
});

export const hostActions = [list, show, doctor, devices, add, invite, label, remove, agentFiles, agentFile];
