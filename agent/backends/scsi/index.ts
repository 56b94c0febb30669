import { readdir, writeFile } from 'node:fs/promises';
import type { PoolDefinition } from '../../../shared/conf/pool.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { exists } from '../../host/files.ts';
import { NodeUnits, unitsOfHost, waitForNames } from '../../volumes/blocks/node-units.ts';
import { UnitPool } from '../../volumes/blocks/unit-pool.ts';
import { UNIT_TRAITS } from '../../volumes/blocks/unit-traits.ts';
import { refuseSourceBut } from '../../volumes/definition.ts';
import { type Backend, CONTRACT_VERSION } from '../backend.ts';
import { missingModule } from '../missing.ts';

/** `host3` of an adapter, which libvirt also writes `scsi_host3`. */
function hostOf({ source }: PoolDefinition): string {
  const { adapter } = source;
  const name = adapter?.type === 'scsi_host' ? adapter.name?.replace(/^scsi_/, '') : undefined;
  if (name === undefined || !/^host\d+$/.test(name))
    throw new StowageError(
      adapter?.type === 'fc_host' ? 'not-supported' : 'invalid-argument',
      "a pool of type 'scsi' has the name of a SCSI adapter of the host as source, such as scsi_host3",
    );
  return name;
}

/** The disks behind one SCSI adapter of the host. */
export const scsiBackend: Backend = {
  type: 'scsi',
  contract: CONTRACT_VERSION,
  traits: UNIT_TRAITS,

  check(definition) {
    refuseSourceBut(definition, ['adapter']);
    hostOf(definition);
  },

  probe: () => missingModule('/sys/bus/scsi/devices', 'SCSI', 'sd_mod'),

  findsOn: 'host',

  async findSources() {
    const hosts = await readdir('/sys/class/scsi_host');
    return hosts.sort().map((name) => ({ name: `scsi_${name}` }));
  },

  open(definition, host) {
    const adapter = hostOf(definition);
    const directory = `/sys/class/scsi_host/${adapter}`;
    const source = {
      name: adapter,
      async id() {
        if (!(await exists(directory)))
          throw new StowageError('pool-inaccessible', `this host has no SCSI adapter ${adapter} now`);
        return adapter;
      },
      // Units that appeared meanwhile are looked for: any channel, target and unit.
      async connect() {
        await writeFile(`${directory}/scan`, '- - -');
        await waitForNames([adapter], definition.target.path);
      },
      async units() {
        const units = await unitsOfHost(adapter, definition.target.path);
        return units.map((unit) => ({ ...unit, uid: unit.wwid ?? `${adapter}:${unit.address}` }));
      },
    };
    return new UnitPool(new NodeUnits(source), host);
  },
};
