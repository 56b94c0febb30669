import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Domain } from '../../../shared/protocol/domains.ts';
import { readConfigurations } from '../configurations.ts';

/** The value of a shell assignment, with the number of the container put in. */
function assigned(text: string, name: string, container: string): string | undefined {
  const match = new RegExp(`^\\s*${name}=(?:"([^"]*)"|'([^']*)'|(\\S*))`, 'm').exec(text);
  const value = match?.[1] ?? match?.[2] ?? match?.[3];
  return value?.replaceAll(/\$\{?(?:VEID|CTID)\}?/g, container) || undefined;
}

/** The containers of OpenVZ on this host (`/etc/vz/conf`): each uses its private area, the ploop image in it included. */
export async function openvzDomains(root: string): Promise<Domain[]> {
  const common = await readFile(join(root, 'etc/vz/vz.conf'), 'utf8').catch(() => '');
  const files = await readConfigurations(join(root, 'etc/vz/conf'), '.conf');
  return files
    .filter(({ name }) => /^[0-9a-f-]+$/i.test(name) && name !== '0')
    .map(({ name, text }) => {
      const area =
        assigned(text, 'VE_PRIVATE', name) ?? assigned(common, 'VE_PRIVATE', name) ?? `/vz/private/${name}`;
      return {
        name: assigned(text, 'NAME', name) ?? name,
        uuid: assigned(text, 'UUID', name),
        origin: 'openvz',
        state: 'unknown',
        persistent: true,
        images: [{ target: 'root', role: 'disk', path: area }],
      };
    });
}
