import { StowageError } from '../../util/errors.ts';
import type { BackingChain, Layer } from './chain.ts';
import type { Disk } from './disk.ts';

/** An error without a kind, as virsh shows it. */
export const plain = (message: string): StowageError => new StowageError('invalid-xml', message);

/** What is known about a disk beyond its own document. */
export interface RuleContext {
  /** Types of domains whose hypervisor is QEMU are bound by its limits too. */
  qemu: boolean;
  /** What a `<source pool= volume=>` really is, where that is known. */
  volumeType?: 'file' | 'block' | 'dir' | 'network' | 'ploop';
  /** Threads that the domain has; undefined where no domain is known. */
  iothreads?: ReadonlySet<number>;
}

/** One thing that a disk must not be, and what libvirt says then. */
export interface DiskRule {
  refuses(disk: Disk, context: RuleContext): boolean;
  /** Which of libvirt's kinds of errors it is. */
  error: (message: string) => StowageError;
  message: string | ((disk: Disk) => string);
}

/** One image of a disk; the format of a volume is for its pool to say. */
export type ImageLayer = Pick<Layer, 'source' | 'metadataCacheBytes'> & { format?: string };

/** One thing that no image of a disk must be. */
export interface LayerRule {
  refuses(layer: ImageLayer, disk: Disk): boolean;
  error: (message: string) => StowageError;
  message: string | ((layer: ImageLayer) => string);
}

function below(chain: BackingChain | undefined): Layer[] {
  return chain === undefined || chain === 'end' ? [] : [chain, ...below(chain.backing)];
}

/** All images of a disk, the top one first, then those that it is copied to. */
export function layersOf({ driver, source, backing, mirror }: Disk): ImageLayer[] {
  const format = driver.type ?? (source.type === 'volume' ? undefined : 'raw');
  const top = { source, format, metadataCacheBytes: driver.metadataCacheBytes };
  return [top, ...below(backing), ...(mirror ? [mirror, ...below(mirror.backing)] : [])];
}

export const lun = (disk: Disk): boolean => disk.device === 'lun';
export const removable = (disk: Disk): boolean => disk.device === 'cdrom' || disk.device === 'floppy';
export const bus = (disk: Disk, ...buses: Disk['target']['bus'][]): boolean =>
  buses.includes(disk.target.bus);
export const dev = (disk: Disk): string => disk.target.dev;
