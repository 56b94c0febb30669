import { join } from 'node:path';
import type { NodeDevice } from '../../shared/conf/node-device.ts';
import { entriesIfExists } from '../host/files.ts';
import { attributeAt } from '../host/sysfs.ts';

/** The SCSI adapters of the host, Fibre Channel's among them, as libvirt names them. `root` is that of sysfs. */
export async function adapters(root = '/sys'): Promise<NodeDevice[]> {
  const fc = new Set(await entriesIfExists(join(root, 'class/fc_host')));
  const names = (await entriesIfExists(join(root, 'class/scsi_host'))).sort(
    (one, other) => Number(one.slice(4)) - Number(other.slice(4)),
  );
  return Promise.all(
    names.map(async (name): Promise<NodeDevice> => {
      const driver = await attributeAt(join(root, 'class/scsi_host', name, 'proc_name'));
      const port = fc.has(name)
        ? await attributeAt(join(root, 'class/fc_host', name, 'port_name'))
        : undefined;
      const state = fc.has(name)
        ? await attributeAt(join(root, 'class/fc_host', name, 'port_state'))
        : undefined;
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
