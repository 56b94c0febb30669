import { Command } from 'commander';
import { XML_TYPE } from '../../shared/conf/xml/write.ts';
import type { FleetDomain } from '../../shared/protocol/api.ts';
import { formatDomainPlace } from '../../shared/protocol/domain-place.ts';
import type { UsedImage } from '../../shared/protocol/domains.ts';
import { DEVICE_CHANGES } from '../../shared/protocol/lists.ts';
import { callJson, callText, send } from './client.ts';
import { type Listing, type ListOptions, listOptions, showList } from './listing.ts';
import { printable, show } from './output.ts';
import { callPages } from './pages.ts';
import { readDocument } from './read-document.ts';
import { hostPath, poolReference } from './references.ts';

function domainPath(reference: string): string {
  // HOST/DOMAIN has the shape of HOST/POOL.
  const { host, pool: domain } = poolReference(reference);
  return `${hostPath(host)}/domains/${encodeURIComponent(domain)}`;
}

function imageText({ target, role, path, pool, volume }: UsedImage): string {
  const place = path ?? `${pool}/${volume}`;
  return role === 'disk' ? `${target}=${place}` : `${target} (${role})=${place}`;
}

const DOMAINS: Listing<FleetDomain> = {
  name: ({ host, name }) => `${host}/${name}`,
  columns: [
    { name: 'DOMAIN', value: ({ host, name }) => `${host}/${name}` },
    { name: 'ORIGIN', value: ({ origin }) => origin },
    { name: 'STATE', value: ({ state }) => state },
    {
      name: 'IMAGES',
      value: ({ unreadable, images }) =>
        unreadable ? `cannot be read: ${unreadable}` : images.map(imageText).join(' '),
    },
    {
      name: 'USES',
      value: ({ uses = [] }) => uses.map(({ pool, volume }) => `${pool}/${volume}`).join(' '),
      wide: true,
    },
    { name: 'UUID', value: ({ uuid }) => uuid, wide: true },
  ],
};

const CHANGES: Record<(typeof DEVICE_CHANGES)[number], string> = {
  'attach-device': 'give a domain a disk',
  'detach-device': 'take a disk away from a domain',
  'update-device': 'change a disk of a domain',
};

export function domainCommand(): Command {
  const domain = new Command('domain').description('virtual machines and containers, as users of volumes');
  domain
    .command('define <host> <file>')
    .description("define a domain from libvirt's document; - reads standard input")
    .action(async (host: string, file: string) => {
      const xml = await readDocument(file);
      const made = await callJson<FleetDomain>(`${hostPath(host)}/domains`, { method: 'POST', xml });
      await show(made, () => `domain ${host}/${printable(made.name)} is ${made.state}`);
    });
  domain
    .command('dumpxml <host/domain>')
    .description("the domain as libvirt's document: of what runs, or of what starts next")
    .option('--inactive', 'what starts next, also while it runs')
    .option('--security-info', 'with the secrets that stand in it')
    .action(async (reference: string, options: { inactive?: boolean; securityInfo?: boolean }) => {
      const path = `${domainPath(reference)}${options.securityInfo ? '/with-secrets' : ''}`;
      process.stdout.write(
        await callText(`${path}?inactive=${Boolean(options.inactive)}`, { accept: XML_TYPE }),
      );
    });
  listOptions(domain.command('list [host]'), { followed: true })
    .description('domains and their images: those defined here, and those of libvirt, Proxmox VE and OpenVZ')
    .action((host: string | undefined, options: ListOptions) =>
      showList(DOMAINS, () => callPages<FleetDomain>('/domains', { host }, formatDomainPlace), options),
    );
  domain
    .command('undefine <host/domain>')
    .description('forget a domain; its volumes stay')
    .action(async (reference: string) => {
      await send(domainPath(reference), { method: 'DELETE' });
      await show({ undefined: reference }, () => `domain ${printable(reference)} is not defined any more`);
    });
  domain
    .command('start <host/domain>')
    .description('record that a domain runs now, if its disks allow it; the hypervisor starts it')
    .action(async (reference: string) => {
      const started = await callJson<FleetDomain>(`${domainPath(reference)}/start`, { method: 'POST' });
      await show(started, () => `domain ${printable(reference)} is ${started.state}`);
    });
  domain
    .command('destroy <host/domain>')
    .description('record that a domain runs no more')
    .action(async (reference: string) => {
      await send(`${domainPath(reference)}/destroy`, { method: 'POST' });
      await show({ destroyed: reference }, () => `domain ${printable(reference)} is shut off`);
    });
  for (const change of DEVICE_CHANGES) {
    domain
      .command(`${change} <host/domain> <file>`)
      .description(`${CHANGES[change]}, from its document; - reads standard input`)
      .option('--live', 'of the domain that runs')
      .option('--config', 'of what starts next')
      .option('--current', 'of the domain as it is now: the one that runs, else what starts next')
      .option('--persistent', 'of what starts next, and of the domain if it runs')
      .action(async (reference: string, file: string, options: Record<string, boolean>) => {
        const given = ['live', 'config', 'current', 'persistent'].filter((name) => options[name]);
        const query = given.map((name) => `${name}=true`).join('&');
        const changed = await callJson<FleetDomain>(`${domainPath(reference)}/${change}?${query}`, {
          method: 'POST',
          xml: await readDocument(file),
        });
        await show(changed, () => changed.images.map(imageText).join('\n'));
      });
  }
  return domain;
}
