import { join } from 'node:path';
import { readConfiguration } from '../host/configurations.ts';

/** A storage of Proxmox VE: its type and properties, as its configuration names them. */
export type Storage = { type: string } & Partial<Record<string, string>>;

/** Where the configuration of Proxmox VE is looked for: `/` but in tests. */
export const proxmoxRoot = (): string => process.env.STOWAGE_GUESTS_ROOT ?? '/';

/** What every node has, whatever its configuration says. */
const LOCAL = { type: 'dir', path: '/var/lib/vz' };

/**
 * The storages in the text of `storage.cfg`: `type: id`, then indented lines of a property and its value; one without a value is
 * switched on. Of two of one name the first counts, as in Proxmox VE.
 */
export function parseStorages(text: string): Map<string, Storage> {
  const storages = new Map<string, Storage>();
  let current: Storage | undefined;
  for (const line of text.split('\n')) {
    const head = /^([^\s:#]+):\s*(\S+)\s*$/.exec(line);
    const property = /^\s+([\w-]+)(?:\s+(.+?))?\s*$/.exec(line);
    if (head) {
      current = { type: head[1]! };
      if (!storages.has(head[2]!)) storages.set(head[2]!, current);
    } else if (property && current) current[property[1]!] = property[2] ?? '1';
    else if (!/^\s+\S/.test(line)) current = undefined;
  }
  const local = storages.get('local');
  if (local?.type !== LOCAL.type || (local.path ?? LOCAL.path) !== LOCAL.path)
    storages.set('local', { ...LOCAL });
  else local.path = LOCAL.path;
  return storages;
}

/** The storages of the cluster that this host is a node of; undefined where there is no such configuration, or not now. */
export async function readStorages(root: string): Promise<Map<string, Storage> | undefined> {
  const text = await readConfiguration(join(root, 'etc/pve/storage.cfg'));
  return text === undefined ? undefined : parseStorages(text);
}

/** The directory of a storage that holds files. */
export const pathOfStorage = (id: string, { path }: Storage): string => path ?? `/mnt/pve/${id}`;

/** Whether a switch among the properties of a storage is on. */
export const isOn = (value: string | undefined): boolean => /^(1|on|yes|true)$/i.test(value ?? '');
