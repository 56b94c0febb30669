import { mappedVolumeSchema, unmappedSchema } from '../../shared/conf/volume.ts';
import { agentVolumePath } from '../hosts/agent-client.ts';
import { defineAction } from './action.ts';
import { volumeAddress } from './addresses.ts';
import { allowUsedField, changeVolume, listed, usersInTheWay, type VolumeAddress } from './volume.ts';

const agentPath = (address: VolumeAddress): string => `${agentVolumePath(address)}/map`;

const map = defineAction({
  name: 'volume.map',
  summary:
    'Makes a raw volume a block device of its host, and gives its node: the same again where it is one already.',
  role: 'operator',
  audited: true,
  input: volumeAddress.extend(allowUsedField),
  answer: mappedVolumeSchema,
  // Who writes to it does so under a guest.
  plan: (services, input) => usersInTheWay(services, input, input.allowUsed),
  record: (_, users) => ({ detail: listed(users) }),
  run: (services, { allowUsed, ...address }, { principal }) =>
    changeVolume(services, address, `mapping by ${principal.name}`, (agent, right) =>
      agent.json(mappedVolumeSchema, agentPath(address), { method: 'POST', ...right, allowUsed }),
    ),
});

const unmap = defineAction({
  name: 'volume.unmap',
  summary: 'Takes the block devices of a volume away, and gives their nodes: none where it was not mapped.',
  role: 'operator',
  audited: true,
  input: volumeAddress,
  answer: unmappedSchema,
  async run(services, address, { principal, note }) {
    const unmapped = await changeVolume(services, address, `unmapping by ${principal.name}`, (agent, right) =>
      agent.json(unmappedSchema, agentPath(address), { method: 'DELETE', ...right }),
    );
    note(unmapped.devices.join(', ') || 'it was not mapped');
    return unmapped;
  },
});

export const mappingActions = [map, unmap];
