import { join } from 'node:path';
import { parseDomainElement } from '../../../shared/conf/domain-xml.ts';
import { readXml } from '../../../shared/conf/xml/read.ts';
import type { Domain } from '../../../shared/protocol/domains.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { readConfigurations, unreadable } from '../configurations.ts';
import { imagesOf } from '../images.ts';

const DRIVERS = ['qemu', 'lxc', 'libxl'];

function persistent(text: string): Domain {
  const domain = parseDomainElement(readXml(text, 'domain'), { live: false });
  return {
    name: domain.name,
    uuid: domain.uuid,
    origin: 'libvirt',
    state: 'shut off',
    persistent: true,
    images: imagesOf(domain.disks),
  };
}

/** A file that libvirt keeps while a domain runs: its state around its live document. */
function running(text: string): Domain {
  const element = readXml(text, 'domstatus').only('domain');
  if (!element) throw new StowageError('invalid-xml', 'a status without a domain');
  const domain = parseDomainElement(element, { live: true });
  return {
    name: domain.name,
    uuid: domain.uuid,
    origin: 'libvirt',
    state: 'running',
    persistent: false,
    images: imagesOf(domain.disks),
  };
}

/** The domains of libvirt's drivers on this host, from the files that they keep (`/etc/libvirt`, `/run/libvirt`). */
export async function libvirtDomains(root: string): Promise<Domain[]> {
  const domains: Domain[] = [];
  for (const driver of DRIVERS) {
    const byName = new Map<string, Domain>();
    const read = async (directory: string, parse: (text: string) => Domain): Promise<void> => {
      for (const file of await readConfigurations(join(root, directory, driver), '.xml')) {
        let found: Domain;
        try {
          found = parse(file.text);
        } catch (error) {
          found = unreadable('libvirt', file, error);
        }
        const known = byName.get(found.name);
        // What it will use when it starts again, and what it uses now.
        byName.set(
          found.name,
          known ? { ...known, state: found.state, images: [...known.images, ...found.images] } : found,
        );
      }
    };
    await read('etc/libvirt', persistent);
    await read('run/libvirt', running);
    domains.push(...byName.values());
  }
  return domains;
}
