import { join } from 'node:path';
import { StowageError } from '../../shared/util/errors.ts';
import { readConfiguration } from '../host/configurations.ts';
import { entriesIfExists, exists } from '../host/files.ts';

/** A storage of Proxmox VE: its type and properties, as its configuration names them. */
export type Storage = { type: string } & Partial<Record<string, string>>;

/** The first line of a storage. */
const HEAD = /^([^\s:#]+):[ \t]*(\S+)[ \t]*$/m;

/** What every node has, whatever its configuration says. */
const LOCAL = {
  type: 'dir',
  path: '/var/lib/vz',
  content: 'backup,images,iso,rootdir,snippets,vztmpl',
};

/**
 * The storages in the text of `storage.cfg`: `type: id`, then indented lines of a property and its value; one without a value is
 * switched on. Of two of one name the first counts, as in Proxmox VE.
 */
export function parseStorages(text: string): Map<string, Storage> {
  const storages = new Map<string, Storage>();
  let current: Storage | undefined;
  for (const line of text.split('\n')) {
    const head = HEAD.exec(line);
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

/**
 * The storages of the cluster that this host is a node of; undefined where it is no node. Throws where the configuration is not there now,
 * or holds no storage: a node without any is not believed.
 */
export async function readStorages(root: string): Promise<Map<string, Storage> | undefined> {
  await requireCluster(root);
  const text = await readConfiguration(join(root, 'etc/pve/storage.cfg'));
  if (text === undefined) return undefined;
  if (!HEAD.test(text))
    throw new StowageError('io-error', `${join(root, 'etc/pve/storage.cfg')} names no storage: it is let be`);
  return parseStorages(text);
}

/**
 * Throws on a node of Proxmox VE whose cluster file system is not mounted: an empty /etc/pve, or none beside its database, does not mean that
 * there are no guests and no storages.
 */
export async function requireCluster(root: string): Promise<void> {
  const directory = join(root, 'etc/pve');
  const isThere = await exists(directory);
  const isNode = isThere || (await exists(join(root, 'var/lib/pve-cluster/config.db')));
  if (!isNode || (await entriesIfExists(directory)).length > 0) return;
  throw new StowageError(
    'io-error',
    `${directory} is empty: the cluster file system of Proxmox VE is not mounted (systemctl status pve-cluster)`,
  );
}

/** The directory of a storage that holds files. */
export const pathOfStorage = (id: string, { path }: Storage): string => path ?? `/mnt/pve/${id}`;

/** Whether a switch among the properties of a storage is on. */
export const isOn = (value: string | undefined): boolean => /^(1|on|yes|true)$/i.test(value ?? '');
