import type { Disk } from '../../shared/conf/disk/disk.ts';
import type { DomainDocument } from '../../shared/conf/domain-xml.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { locate } from '../host/mounts.ts';

/** Where a volume lies that a disk names by its pool; undefined where that is not known. */
export type PathOf = (pool: string, volume: string) => string | undefined;

/** The same for two disks of one image. */
function imageOf({ source }: Disk, pathOf: PathOf): string | undefined {
  const { volume, path, type } = source;
  if (volume) {
    const at = pathOf(volume.pool, volume.volume);
    return at === undefined ? `${volume.pool}/${volume.volume}` : locate(at).path;
  }
  return path !== undefined && (type === 'file' || type === 'block') ? locate(path).path : undefined;
}

/**
 * Throws `volume-used` when a domain that is to run has a disk on an image that another running domain has, unless both only
 * read it or both say that it may be shared: two guests that do not know of each other destroy its file system.
 */
export function refuseShared(
  document: DomainDocument,
  running: readonly DomainDocument[],
  pathOf: PathOf,
): void {
  const disks = document.disks.map((disk) => ({ disk, image: imageOf(disk, pathOf) }));
  for (const other of running) {
    if (other.name === document.name) continue;
    for (const theirs of other.disks) {
      const image = imageOf(theirs, pathOf);
      const ours = image && disks.find((each) => each.image === image)?.disk;
      if (!ours || (ours.shareable && theirs.shareable) || (ours.readonly && theirs.readonly)) continue;
      throw new StowageError(
        'volume-used',
        `the disk ${ours.target.dev} is ${image}, which the running domain '${other.name}' has as ${theirs.target.dev}; disks that both domains may write to need <shareable/> in both`,
      );
    }
  }
}
