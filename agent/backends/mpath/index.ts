import { exists } from '../../host/files.ts';
import { multipathDevices } from '../../volumes/blocks/host-disks.ts';
import { NodeUnits } from '../../volumes/blocks/node-units.ts';
import { UnitPool } from '../../volumes/blocks/unit-pool.ts';
import { UNIT_TRAITS } from '../../volumes/blocks/unit-traits.ts';
import { refuseSourceBut } from '../../volumes/definition.ts';
import { type Backend, CONTRACT_VERSION } from '../backend.ts';

/** All multipath devices of the host. */
export const mpathBackend: Backend = {
  type: 'mpath',
  contract: CONTRACT_VERSION,
  traits: UNIT_TRAITS,

  check(definition) {
    refuseSourceBut(definition, []);
  },

  async probe() {
    return (await exists('/sys/class/misc/device-mapper'))
      ? undefined
      : 'the kernel of this host has no device-mapper (dm_multipath)';
  },

  open(_definition, host) {
    const source = {
      name: 'multipath devices',
      // There is one such pool on a host.
      id: async () => 'mpath',
      async units() {
        return (await multipathDevices()).map(({ name, wwid, sizeBytes }) => ({
          name,
          uid: wwid ?? name,
          path: `/dev/mapper/${name}`,
          sizeBytes,
        }));
      },
    };
    return new UnitPool(new NodeUnits(source), host);
  },
};
