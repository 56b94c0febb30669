import type { PveContent } from './volume-names.ts';

/** Where the contents of a directory storage of Proxmox VE lie in it, when nothing else is said. */
const USUAL: Record<PveContent, string> = {
  images: 'images',
  rootdir: 'private',
  iso: 'template/iso',
  vztmpl: 'template/cache',
  backup: 'dump',
  snippets: 'snippets',
  import: 'import',
};

/** The directories of all contents, below that of the storage; `other` is its property `content-dirs`, such as `images=disks,iso=cd`. */
export function contentDirectories(other: string | undefined): Record<PveContent, string> {
  const directories = { ...USUAL };
  for (const part of other?.split(',') ?? []) {
    const [content = '', path = ''] = part.split('=').map((text) => text.trim());
    const place = path
      .split('/')
      .filter((step) => step !== '' && step !== '.')
      .join('/');
    if (Object.hasOwn(USUAL, content) && place !== '' && !/(^|\/)\./.test(place))
      directories[content as PveContent] = place;
  }
  return directories;
}
