import { join } from 'node:path';
import type { Domain } from '../../../shared/protocol/domains.ts';
import { readConfiguration, readConfigurations } from '../../host/configurations.ts';

/** Directories whose changes inotify reports. */
export const OPENVZ_DIRECTORIES = ['etc/vz/conf'];

/** The value of a shell assignment, with the number of the container put in. */
function assigned(text: string, name: string, container: string): string | undefined {
  // Of several the last holds, as in a shell.
  const match = [...text.matchAll(new RegExp(`^\\s*${name}=(?:"([^"]*)"|'([^']*)'|(\\S*))`, 'gm'))].at(-1);
  const value = match?.[1] ?? match?.[2] ?? match?.[3];
  return value?.replaceAll(/\$\{?(?:VEID|CTID)\}?/g, container) || undefined;
}

/** The containers of OpenVZ on this host (`/etc/vz/conf`): each uses its private area, the ploop image in it included. */
export async function openvzDomains(root: string): Promise<Domain[]> {
  const common = (await readConfiguration(join(root, 'etc/vz/vz.conf'))) ?? '';
  const files = await readConfigurations(join(root, 'etc/vz/conf'), '.conf');
  const containers = files.filter(({ name }) => /^[0-9a-f-]+$/i.test(name) && name !== '0');
  const names = containers.map(({ name, text }) => assigned(text, 'NAME', name));
  return containers.map(({ name, text }, index) => {
    const own = names[index];
    // Two of one name are told by their numbers.
    const isUnique = own !== undefined && names.indexOf(own) === names.lastIndexOf(own);
    const area =
      assigned(text, 'VE_PRIVATE', name) ?? assigned(common, 'VE_PRIVATE', name) ?? `/vz/private/${name}`;
    return {
      name: isUnique ? own : name,
      uuid: assigned(text, 'UUID', name),
      origin: 'openvz',
      state: 'unknown',
      persistent: true,
      images: [
        { target: 'root', role: 'disk' as const, path: area },
        // Further disks: DISK…="…,image=PATH,…"
        ...[...text.matchAll(/\bimage=([^,"'\s]+)/g)].map(([, path]) => ({
          target: 'disk',
          role: 'disk' as const,
          path: path!.replaceAll(/\$\{?(?:VEID|CTID)\}?/g, name),
        })),
      ],
    };
  });
}
