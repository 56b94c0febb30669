import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { parseDomain } from '../../shared/conf/domain-xml.ts';
import { type FleetDomain, fleetDomainSchema } from '../../shared/protocol/api.ts';
import { affectSchema, type Domain, domainSchema, parseDomainPlace } from '../../shared/protocol/domains.ts';
import { DEVICE_CHANGES, type DeviceChange } from '../../shared/protocol/lists.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { nameSchema } from '../../shared/util/names.ts';
import { type Action, defineAction, type Services } from './action.ts';
import { hostAddress, pageFields } from './addresses.ts';

const domainAddress = hostAddress.extend({ domain: nameSchema });
/** A document of libvirt; read after its sender was let in. */
const xmlField = { xml: z.string() };

const agentPath = (domain: string): string => `/v1/domains/${encodeURIComponent(domain)}`;

/** The inventory shows a change as soon as its caller hears of it. */
async function shown({ inventory }: Services, host: string, domain: Domain): Promise<FleetDomain> {
  const found = await inventory.showsDomain(
    host,
    domain.name,
    (shownDomain) => shownDomain !== undefined && isDeepStrictEqual(domainSchema.parse(shownDomain), domain),
  );
  return { host, ...domain, uses: found?.uses };
}

const list = defineAction({
  name: 'domain.list',
  summary: 'The domains of the fleet or of a host, with what they use, by host and name, a page at a time.',
  role: 'viewer',
  input: z.object({
    host: nameSchema.optional(),
    ...pageFields,
    /** The last `host/name/origin/uuid` of the page before, each percent-encoded. */
    after: z.string().max(8000).optional(),
  }),
  answer: z.array(fleetDomainSchema),
  places: ({ host }) => (host === undefined ? [] : [{ host }]),
  // A domain uses what it likes: who has a part of a host only does not see them.
  touch: 'act',
  async run({ inventory }, { after, ...filter }, { principal }) {
    const place = after === undefined ? undefined : parseDomainPlace(after);
    if (after !== undefined && !place)
      throw new StowageError('invalid-argument', `after: '${after.slice(0, 60)}' is no place of a domain`);
    const scopes = principal.scopes.filter((scope) => !scope.includes('/'));
    if (scopes.length === 0 && principal.scopes.length > 0) return [];
    return inventory.domains({ ...filter, after: place, scopes });
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
  async run(services, { host, xml }, { note }) {
    const agent = await services.fleet.client(host);
    const domain = await agent.json(domainSchema, '/v1/domains', { method: 'POST', json: { xml } });
    if (domain.uuid !== undefined) note(domain.uuid);
    return shown(services, host, domain);
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
  async run({ fleet, inventory }, { host, domain }) {
    await (await fleet.client(host)).send(agentPath(domain), { method: 'DELETE' });
    // One that runs is there until it is stopped.
    await inventory.showsDomain(host, domain, (shownDomain) => !shownDomain?.persistent);
  },
});

const start = defineAction({
  name: 'domain.start',
  summary: 'Counts a domain as running, when all that it uses can be used.',
  role: 'operator',
  audited: true,
  input: domainAddress,
  answer: fleetDomainSchema,
  async run(services, { host, domain }) {
    const agent = await services.fleet.client(host);
    const path = `${agentPath(domain)}/start`;
    return shown(services, host, await agent.json(domainSchema, path, { method: 'POST' }));
  },
});

const destroy = defineAction({
  name: 'domain.destroy',
  summary: 'Counts a domain as stopped.',
  role: 'operator',
  audited: true,
  input: domainAddress,
  answer: 'nothing',
  async run({ fleet, inventory }, { host, domain }) {
    await (await fleet.client(host)).send(`${agentPath(domain)}/destroy`, { method: 'POST' });
    await inventory.showsDomain(host, domain, (shownDomain) => shownDomain?.state !== 'running');
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
    async run(services, { host, domain, ...json }) {
      const agent = await services.fleet.client(host);
      const path = `${agentPath(domain)}/${change}`;
      return shown(services, host, await agent.json(domainSchema, path, { method: 'POST', json }));
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
