import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { isDiskFormat } from '../../../shared/conf/image-formats.ts';
import type { contentDirectories } from '../../../shared/pve/content-directories.ts';
import { poolNameOf, pveVolume } from '../../../shared/pve/images.ts';
import { type PveContent, type PveVolumeName, parseVolumeName } from '../../../shared/pve/volume-names.ts';
import { isStowageError } from '../../../shared/util/errors.ts';
import type { Layout } from '../../volumes/files/layout.ts';

const GUEST = /^[1-9]\d*$/;
/** Contents that are files. Containers in directories of their own are none of our volumes. */
const CONTENTS: readonly PveContent[] = ['iso', 'vztmpl', 'backup', 'snippets', 'import'];

/** A directory as Proxmox VE lays it out: `images/GUEST/DISK`, `template/iso/…`, `dump/…`. */
export function proxmoxLayout(directories: ReturnType<typeof contentDirectories>): Layout {
  const { images } = directories;

  const placeOf = (name: string): string | undefined => {
    const volume = pveVolume('dir', name);
    if (!volume || volume.name.includes('/')) return undefined;
    // Images of other formats, and containers in directories, are not worked on here.
    if (volume.content === 'images')
      return isDiskFormat(volume.format) ? join(images, String(volume.vmid), volume.name) : undefined;
    return CONTENTS.includes(volume.content) ? join(directories[volume.content], volume.name) : undefined;
  };

  /** What Proxmox VE calls what lies at a place. */
  const volumeIdAt = (place: string): string | undefined => {
    if (place.startsWith(`${images}/`)) return place.slice(images.length + 1);
    const content = CONTENTS.find((each) => place.startsWith(`${directories[each]}/`));
    return content && `${content}/${place.slice(directories[content].length + 1)}`;
  };

  const volumeAt = (place: string): PveVolumeName | undefined => {
    const id = volumeIdAt(place);
    try {
      return id === undefined ? undefined : parseVolumeName('dir', id);
    } catch (error) {
      if (!isStowageError(error, 'invalid-name')) throw error;
      return undefined;
    }
  };

  return {
    placeOf,
    nameAt(place) {
      const volume = volumeAt(place);
      if (!volume || volume.name.startsWith('.')) return undefined;
      const name = poolNameOf('dir', volume);
      return placeOf(name) === place ? name : undefined;
    },
    isOthers(place) {
      const { format, content } = volumeAt(place) ?? {};
      const isUnknown = content === 'rootdir' || (content === 'images' && !isDiskFormat(format ?? ''));
      // What a backup tells of itself lies beside it.
      const isNote = place.startsWith(`${directories.backup}/`) && /\.(log|notes|protected)$/.test(place);
      return isUnknown || isNote || place === directories.rootdir;
    },
    async directories(pool) {
      const found = [''];
      const steps = new Set<string>();
      for (const directory of [images, ...CONTENTS.map((content) => directories[content])])
        for (let at = directory; at !== '.'; at = join(at, '..')) steps.add(at);
      for (const directory of [...steps].sort()) {
        const entries = await entriesOf(join(pool, directory));
        // A directory of the first level may be a link that the owner of the storage has made; below it none is followed.
        if (!entries || (directory.includes('/') && (await isLink(join(pool, directory))))) continue;
        found.push(directory);
        if (directory === images)
          for (const { name } of entries.filter((entry) => entry.isDirectory() && GUEST.test(entry.name)))
            found.push(join(images, name));
      }
      return found;
    },
    formatOf(name) {
      const format = pveVolume('dir', name)?.format;
      return format !== undefined && isDiskFormat(format) ? format : undefined;
    },
  };
}

const isLink = async (path: string): Promise<boolean> => (await lstat(path)).isSymbolicLink();

/** undefined where there is no such directory. */
async function entriesOf(path: string) {
  try {
    return await readdir(path, { withFileTypes: true });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw error;
  }
}
