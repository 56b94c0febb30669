import { join } from 'node:path';
import { type DomainDocument, parseDomainElement } from '../../../shared/conf/domain-xml.ts';
import { parsePool } from '../../../shared/conf/pool-xml.ts';
import { readXml } from '../../../shared/conf/xml/read.ts';
import type { Domain, UsedImage } from '../../../shared/protocol/domains.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { readConfigurations } from '../../host/configurations.ts';
import { imagesOf } from '../images.ts';
import { unreadable } from '../unreadable.ts';

const DRIVERS = ['qemu', 'lxc', 'libxl'];
const POOLS = ['etc/libvirt/storage', 'run/libvirt/storage'];

/** Directories whose changes inotify reports. */
export const LIBVIRT_DIRECTORIES = [
  ...POOLS,
  ...DRIVERS.flatMap((driver) => [`etc/libvirt/${driver}`, `run/libvirt/${driver}`]),
];

function persistent(text: string): DomainDocument {
  return parseDomainElement(readXml(text, 'domain'), { live: false });
}

/** A file that libvirt keeps while a domain runs: its state around its live document. */
function running(text: string): DomainDocument {
  const element = readXml(text, 'domstatus').one('domain');
  if (!element) throw new StowageError('invalid-xml', 'a status without a domain');
  return parseDomainElement(element, { live: true });
}

/** Where libvirt's own pools have their volumes: their names are not ours. */
async function poolTargets(root: string): Promise<Map<string, string>> {
  const targets = new Map<string, string>();
  for (const directory of POOLS)
    for (const { text } of await readConfigurations(join(root, directory), '.xml')) {
      try {
        const { name, target } = parsePool(text);
        if (target.path !== undefined) targets.set(name, target.path);
      } catch {
        // A pool that we cannot read: its volumes are at places that we do not know.
      }
    }
  return targets;
}

/** The domains of libvirt's drivers on this host, from the files that they keep (`/etc/libvirt`, `/run/libvirt`). */
export async function libvirtDomains(root: string): Promise<Domain[]> {
  const targets = await poolTargets(root);
  const placed = (image: UsedImage): UsedImage => {
    const { pool, volume, ...rest } = image;
    if (pool === undefined || volume === undefined) return image;
    const target = targets.get(pool);
    return { ...rest, path: target === undefined ? undefined : join(target, volume) };
  };
  const domains: Domain[] = [];
  for (const driver of DRIVERS) {
    const byName = new Map<string, Domain>();
    const read = async (
      directory: string,
      parse: (text: string) => DomainDocument,
      state: Pick<Domain, 'state' | 'persistent'>,
    ): Promise<void> => {
      for (const file of await readConfigurations(join(root, directory, driver), '.xml')) {
        let found: Domain;
        try {
          const document = parse(file.text);
          const { name } = document;
          // One that is not written there is a new one at each look.
          const uuid = file.text.includes('<uuid>') ? document.uuid : undefined;
          found = { name, uuid, origin: 'libvirt', ...state, images: imagesOf(document).map(placed) };
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
    await read('etc/libvirt', persistent, { state: 'shut off', persistent: true });
    await read('run/libvirt', running, { state: 'running', persistent: false });
    domains.push(...byName.values());
  }
  return domains;
}
