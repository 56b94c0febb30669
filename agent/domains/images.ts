import type { BackingChain } from '../../shared/conf/disk/chain.ts';
import type { StorageSource } from '../../shared/conf/disk/source.ts';
import type { DomainDocument } from '../../shared/conf/domain-xml.ts';
import type { XmlElement } from '../../shared/conf/xml/element.ts';
import type { UsedImage } from '../../shared/protocol/domains.ts';

function imageOf(source: StorageSource, target: string, role: UsedImage['role']): UsedImage[] {
  if (source.volume) return [{ target, role, pool: source.volume.pool, volume: source.volume.volume }];
  const local = source.type === 'file' || source.type === 'block' || source.type === 'dir';
  return local && source.path !== undefined ? [{ target, role, path: source.path }] : [];
}

function chainOf(chain: BackingChain | undefined, target: string): UsedImage[] {
  const images: UsedImage[] = [];
  for (let layer = chain; layer !== undefined && layer !== 'end'; layer = layer.backing)
    images.push(...imageOf(layer.source, target, 'backing'));
  return images;
}

/** Elements whose text is the path of an image: what a domain boots from, and where its firmware keeps its variables. */
const PATHS = ['kernel', 'initrd', 'dtb', 'loader', 'nvram', 'path'];

/** What else a domain opens: firmware, file systems of containers, memory devices. */
function otherImages(element: XmlElement): UsedImage[] {
  // What stands in the metadata is whatever somebody liked to note there.
  if (element.name === 'disk' || element.name === 'metadata') return [];
  const texts = PATHS.includes(element.name) ? [element.text.trim()] : [];
  const sources = element.name === 'source' ? [element.attribute('file'), element.attribute('dev')] : [];
  const own = [...texts, ...sources]
    .filter((path) => path?.startsWith('/'))
    .map((path) => ({ target: element.name, role: 'disk' as const, path }));
  const [pool, volume] =
    element.name === 'source' ? [element.attribute('pool'), element.attribute('volume')] : [];
  const named = pool && volume ? [{ target: element.name, role: 'disk' as const, pool, volume }] : [];
  return [...own, ...named, ...element.children.flatMap(otherImages)];
}

/** What a domain names on its host: its disks, what these stand on, where they are mirrored to, and what else it opens. */
export function imagesOf({ disks, written }: DomainDocument): UsedImage[] {
  return [
    ...disks.flatMap(({ source, target: { dev }, backing, mirror }) => [
      ...imageOf(source, dev, 'disk'),
      ...chainOf(backing, dev),
      ...(mirror ? [...imageOf(mirror.source, dev, 'mirror'), ...chainOf(mirror.backing, dev)] : []),
    ]),
    ...otherImages(written),
  ];
}
