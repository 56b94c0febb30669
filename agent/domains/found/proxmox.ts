import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Domain, UsedImage } from '../../../shared/protocol/domains.ts';
import { contentDirectories } from '../../../shared/pve/content-directories.ts';
import { type Configuration, readConfigurations, unlessAbsent } from '../../host/configurations.ts';
import { exists } from '../../host/files.ts';
import { pathOfStorage, readStorages, type Storage } from '../../proxmox/storage-config.ts';

/** Keys of a guest's configuration that name a volume. */
const VOLUME_KEYS = /^(?:(?:ide|sata|scsi|virtio|efidisk|tpmstate|unused|mp)\d+|rootfs|cdrom|vmstate)$/;

/** Where a volume of a storage is on the host; undefined where it has no path. */
function pathOf(storage: Storage | undefined, id: string, name: string): string | undefined {
  switch (storage?.type) {
    case 'dir':
    case 'btrfs':
    case 'nfs':
    case 'cifs':
    case 'cephfs':
    case 'glusterfs': {
      const directories = contentDirectories(storage['content-dirs']);
      const [kind = '', rest] = name.split(/\/(.*)/s);
      if (kind === 'iso' || kind === 'vztmpl')
        return join(pathOfStorage(id, storage), directories[kind], rest!);
      // A linked clone is written as what it stands on, a slash, and what it is.
      const image = /^\d+\/[^/]+\/(\d+\/.*)$/.exec(name)?.[1] ?? name;
      // A subvolume holds the image.
      const file = storage.type === 'btrfs' ? image.replace(/\.raw$/, '/disk.raw') : image;
      return join(pathOfStorage(id, storage), directories.images, file);
    }
    case 'lvm':
    case 'lvmthin':
      return `/dev/${storage.vgname}/${name}`;
    case 'zfspool':
      return `/dev/zvol/${storage.pool}/${name.replace(/^.*\//, '')}`;
    default:
      return undefined;
  }
}

/** The volumes of all sections: the present ones, those that wait for a stop, those of snapshots. */
function parseImages(text: string, storages: Map<string, Storage>): UsedImage[] {
  const images: UsedImage[] = [];
  for (const line of text.split('\n')) {
    const entry = /^(\w+):\s*(.+?)\s*$/.exec(line);
    if (!entry || !VOLUME_KEYS.test(entry[1]!)) continue;
    const [target, value] = [entry[1]!, entry[2]!];
    const parts = value.split(',');
    // The volume comes first, unless it has a key.
    const first = parts.find((part) => /^(?:file|volume)=/.test(part))?.replace(/^\w+=/, '') ?? parts[0]!;
    const volume = /^([\w.-]+):(.+)$/.exec(first);
    const path = volume ? pathOf(storages.get(volume[1]!), volume[1]!, volume[2]!) : first;
    if (path?.startsWith('/') && !images.some((image) => image.target === target && image.path === path))
      images.push({ target, role: 'disk', path });
  }
  return images;
}

/** Value of a key before the first section, which is that of the guest as it is. */
const entryOf = (text: string, key: string): string | undefined =>
  new RegExp(`^${key}:\\s*(\\S+)`, 'm').exec(text.split(/^\[/m)[0]!)?.[1];

/** Guests of other nodes of the cluster: on a storage that is shared they use what lies here. */
async function guestsElsewhere(root: string, here: ReadonlySet<string>): Promise<Configuration[]> {
  const nodes = (await readdir(join(root, 'etc/pve/nodes')).catch(unlessAbsent)) ?? [];
  const lists = await Promise.all(
    nodes.flatMap((node) =>
      ['qemu-server', 'lxc'].map((kind) =>
        readConfigurations(join(root, 'etc/pve/nodes', node, kind), '.conf'),
      ),
    ),
  );
  return lists.flat().filter(({ name }) => !here.has(name));
}

/** The guests of Proxmox VE on this host, named by their numbers (`/etc/pve/qemu-server`, `/etc/pve/lxc`). */
export async function proxmoxDomains(root: string): Promise<Domain[]> {
  const storages = (await readStorages(root)) ?? new Map<string, Storage>();
  const machines = await readConfigurations(join(root, 'etc/pve/qemu-server'), '.conf');
  const containers = await readConfigurations(join(root, 'etc/pve/lxc'), '.conf');
  const elsewhere = await guestsElsewhere(
    root,
    new Set([...machines, ...containers].map(({ name }) => name)),
  );
  const domain = (state: Domain['state'], name: string, configuration: string): Domain => ({
    name,
    uuid: /\buuid=([0-9a-f-]{36})/.exec(entryOf(configuration, 'smbios1') ?? '')?.[1],
    origin: 'proxmox',
    state,
    persistent: true,
    images: parseImages(configuration, storages),
  });
  return [
    ...(await Promise.all(
      machines.map(async (found) => {
        const runs = await exists(join(root, `run/qemu-server/${found.name}.pid`));
        return domain(runs ? 'running' : 'shut off', found.name, found.text);
      }),
    )),
    // Whether a container runs is known to the kernel alone.
    ...[...containers, ...elsewhere].map(({ name, text: configuration }) =>
      domain('unknown', name, configuration),
    ),
  ];
}
