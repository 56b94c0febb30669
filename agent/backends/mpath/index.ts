import { multipathDevices } from '../../volumes/blocks/host-disks.ts';
import { NodeUnits } from '../../volumes/blocks/node-units.ts';
import { UnitPool } from '../../volumes/blocks/unit-pool.ts';
import { UNIT_TRAITS } from '../../volumes/blocks/unit-traits.ts';
import { refuseSourceBut } from '../../volumes/definition.ts';
import { type Backend, CONTRACT_VERSION } from '../backend.ts';
import { missingModule, missingTool } from '../missing.ts';

/** All multipath devices of the host. */
export const mpathBackend: Backend = {
  type: 'mpath',
  contract: CONTRACT_VERSION,
  traits: UNIT_TRAITS,

  check(definition) {
    refuseSourceBut(definition, []);
  },

  probe: () => missingModule('/sys/class/misc/device-mapper', 'device-mapper', 'dm_multipath'),

  // Who finds the paths of a device.
  lacks: async () => [await missingTool('multipath', 'multipath-tools', ['-h'])],

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
