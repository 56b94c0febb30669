import { z } from 'zod';
import { readXml } from './xml/read.ts';
import { XmlWriter } from './xml/write.ts';

/** Something that a pool could be made of. */
export const foundSourceSchema = z.object({
  host: z.string().optional(),
  dir: z.string().optional(),
  devices: z.array(z.string()).optional(),
  name: z.string().optional(),
  format: z.string().optional(),
});
export type FoundSource = z.infer<typeof foundSourceSchema>;

/** libvirt's document of what was found. */
export function formatSources(sources: readonly FoundSource[]): string {
  const xml = new XmlWriter();
  xml.element('sources', {}, () => {
    for (const { host, dir, devices = [], name, format } of sources) {
      xml.element('source', {}, () => {
        if (host !== undefined) xml.empty('host', { name: host });
        for (const path of devices) xml.empty('device', { path });
        if (dir !== undefined) xml.empty('dir', { path: dir });
        if (name !== undefined) xml.leaf('name', name);
        if (format !== undefined) xml.empty('format', { type: format });
      });
    }
  });
  return xml.toString();
}

/** The volumes in what `gluster --xml volume info all` prints, as sources of pools of gluster or of mounts of it. */
export function glusterSources(output: string, host: string, pool: 'gluster' | 'netfs'): FoundSource[] {
  // Its output begins with a comment of three dashes now and then, which no document may have.
  const document = readXml(output.replaceAll(/<!--.*?-->/gs, ''), 'cliOutput');
  return document.all('volInfo/volumes/volume').flatMap((volume): FoundSource[] => {
    const name = volume.textOf('name');
    if (name === undefined) return [];
    return pool === 'gluster' ? [{ host, dir: '/', name }] : [{ host, dir: name, format: 'glusterfs' }];
  });
}
