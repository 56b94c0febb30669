import type { BackingChain } from '../../shared/conf/disk/chain.ts';
import type { Disk } from '../../shared/conf/disk/disk.ts';
import type { StorageSource } from '../../shared/conf/disk/source.ts';
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

/** What the disks of a domain name on their host: their own images, what these stand on, where they are mirrored to. */
export function imagesOf(disks: readonly Disk[]): UsedImage[] {
  return disks.flatMap(({ source, target: { dev }, backing, mirror }) => [
    ...imageOf(source, dev, 'disk'),
    ...chainOf(backing, dev),
    ...(mirror ? [...imageOf(mirror.source, dev, 'mirror'), ...chainOf(mirror.backing, dev)] : []),
  ]);
}
