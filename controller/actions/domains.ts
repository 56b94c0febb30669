import pLimit from 'p-limit';
import { z } from 'zod';
import { parseDomain } from '../../shared/conf/domain-xml.ts';
import { domainListSchema, fleetDomainSchema } from '../../shared/protocol/api.ts';
import {
  affectSchema,
  DEVICE_CHANGES,
  type DeviceChange,
  domainSchema,
} from '../../shared/protocol/domains.ts';
import { nameSchema } from '../../shared/util/names.ts';
import { mayTouch } from '../auth/principal.ts';
import { type Action, defineAction } from './action.ts';
import { hostAddress } from './addresses.ts';

const domainAddress = hostAddress.extend({ domain: nameSchema });
/** A document of libvirt; read after its sender was let in. */
const xmlField = { xml: z.string() };

/** Hosts that are asked at the same time. */
const ASKED_AT_ONCE = 64;

const agentPath = (domain: string): string => `/v1/domains/${encodeURIComponent(domain)}`;

const list = defineAction({
  name: 'domain.list',
  summary: 'The domains of the fleet or of a host, as the hosts tell now.',
  role: 'viewer',
  input: z.object({ host: nameSchema.optional() }),
  answer: domainListSchema,
  places: ({ host }) => (host === undefined ? [] : [{ host }]),
  async run({ fleet }, { host }, { principal }) {
    const all = host === undefined ? await fleet.list() : [await fleet.get(host)];
    const asking = pLimit(ASKED_AT_ONCE);
    // A domain uses what it likes: who has a part of a host only does not see them.
    const hosts = all.filter(({ name }) => mayTouch(principal, { host: name }, 'act'));
    const answers = await Promise.all(
      hosts.map(async ({ name }) => {
        const asked = asking(async () =>
          (await fleet.client(name)).json(z.array(domainSchema), '/v1/domains'),
        );
        return asked.then(
          (domains) => ({ domains: domains.map((domain) => ({ host: name, ...domain })), missing: [] }),
          (error) => ({ domains: [], missing: [{ host: name, reason: String(error.message) }] }),
        );
      }),
    );
    return {
      domains: answers.flatMap(({ domains }) => domains),
      missing: answers.flatMap(({ missing }) => missing),
    };
  },
});

const define = defineAction({
  name: 'domain.define',
  summary: "Defines a domain, a user of volumes, from libvirt's document.",
  role: 'operator',
  audited: true,
  input: hostAddress.extend(xmlField),
  answer: fleetDomainSchema,
  plan: async (_services, { xml }) => parseDomain(xml, { live: false }),
  record: ({ host }, { name }) => ({ target: `${host}/${name}` }),
  async run({ fleet }, { host, xml }, { note }) {
    const agent = await fleet.client(host);
    const domain = await agent.json(domainSchema, '/v1/domains', { method: 'POST', json: { xml } });
    if (domain.uuid !== undefined) note(domain.uuid);
    return { host, ...domain };
  },
});

/** The document, for everybody; with the secrets that stand in it, such as cookies, for those who may, and on record. */
function documentAction(secure: boolean): Action {
  return defineAction({
    name: secure ? 'domain.read-secrets' : 'domain.dumpxml',
    summary: `A domain as libvirt's document${secure ? ', with the secrets in it' : ''}.`,
    role: secure ? 'operator' : 'viewer',
    audited: secure,
    // It names what it likes of the host.
    touch: 'act',
    input: domainAddress.extend({ inactive: z.boolean().default(false) }),
    answer: 'xml',
    async run({ fleet }, { host, domain, inactive }) {
      const agent = await fleet.client(host);
      const path = `${agentPath(domain)}/document?inactive=${inactive}&secure=${secure}`;
      const { xml } = await agent.json(z.object({ xml: z.string() }), path);
      return xml;
    },
  });
}

const undefine = defineAction({
  name: 'domain.undefine',
  summary: 'Forgets a domain; its volumes stay.',
  role: 'operator',
  audited: true,
  input: domainAddress,
  answer: 'nothing',
  async run({ fleet }, { host, domain }) {
    await (await fleet.client(host)).send(agentPath(domain), { method: 'DELETE' });
  },
});

const start = defineAction({
  name: 'domain.start',
  summary: 'Counts a domain as running, when all that it uses can be used.',
  role: 'operator',
  audited: true,
  input: domainAddress,
  answer: fleetDomainSchema,
  async run({ fleet }, { host, domain }) {
    const agent = await fleet.client(host);
    return { host, ...(await agent.json(domainSchema, `${agentPath(domain)}/start`, { method: 'POST' })) };
  },
});

const destroy = defineAction({
  name: 'domain.destroy',
  summary: 'Counts a domain as stopped.',
  role: 'operator',
  audited: true,
  input: domainAddress,
  answer: 'nothing',
  async run({ fleet }, { host, domain }) {
    await (await fleet.client(host)).send(`${agentPath(domain)}/destroy`, { method: 'POST' });
  },
});

const SUMMARIES: Record<DeviceChange, string> = {
  'attach-device': 'Attaches a device to a domain.',
  'detach-device': 'Detaches a device from a domain.',
  'update-device': 'Changes a device of a domain.',
};

function deviceAction(change: DeviceChange): Action {
  return defineAction({
    name: `domain.${change}`,
    summary: SUMMARIES[change],
    role: 'operator',
    audited: true,
    input: domainAddress.extend({ ...affectSchema.shape, ...xmlField }),
    answer: fleetDomainSchema,
    record: ({ host: _, domain: __, xml: ___, ...affect }) => ({
      detail: Object.entries(affect)
        .flatMap(([name, value]) => (value ? [name] : []))
        .join(', '),
    }),
    async run({ fleet }, { host, domain, ...json }) {
      const agent = await fleet.client(host);
      const path = `${agentPath(domain)}/${change}`;
      return { host, ...(await agent.json(domainSchema, path, { method: 'POST', json })) };
    },
  });
}

export const domainActions = [
  list,
  define,
  documentAction(false),
  documentAction(true),
  undefine,
  start,
  destroy,
  ...DEVICE_CHANGES.map(deviceAction),
];
