import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { NodeDevice } from '../../shared/conf/node-device.ts';

async function textOf(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').then(
    (text) => text.trim(),
    (error: NodeJS.ErrnoException) => {
      // A driver need not have the attribute; an adapter may go while it is looked at.
      if (['ENOENT', 'EINVAL', 'ENODEV', 'EOPNOTSUPP'].includes(error.code ?? '')) return undefined;
      throw error;
    },
  );
}

async function entriesOf(directory: string): Promise<string[]> {
  return readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
    return [];
  });
}

/** The SCSI adapters of the host, Fibre Channel's among them, as libvirt names them. `root` is that of sysfs. */
export async function adapters(root = '/sys'): Promise<NodeDevice[]> {
  const fc = new Set(await entriesOf(join(root, 'class/fc_host')));
  const names = (await entriesOf(join(root, 'class/scsi_host'))).sort(
    (one, other) => Number(one.slice(4)) - Number(other.slice(4)),
  );
  return Promise.all(
    names.map(async (name): Promise<NodeDevice> => {
      const driver = await textOf(join(root, 'class/scsi_host', name, 'proc_name'));
      const port = fc.has(name) ? await textOf(join(root, 'class/fc_host', name, 'port_name')) : undefined;
      const state = fc.has(name) ? await textOf(join(root, 'class/fc_host', name, 'port_state')) : undefined;
      return {
        kind: fc.has(name) ? 'fc-adapter' : 'scsi-adapter',
        name: `scsi_${name}`,
        model: driver,
        wwn: port?.replace(/^0x/, ''),
        holds: state,
        poolTypes: [],
      };
    }),
  );
}
