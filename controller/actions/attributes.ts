import { volumeAttributesSchema, volumeSchema } from '../../shared/conf/volume.ts';
import { baseVolumeSchema, renameVolumeSchema } from '../../shared/protocol/agent.ts';
import { type FleetVolume, fleetVolumeSchema } from '../../shared/protocol/api.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { agentVolumePath } from '../hosts/agent-client.ts';
import { defineAction, type Services } from './action.ts';
import { volumeAddress } from './addresses.ts';
import {
  allowUsedField,
  changeVolume,
  listed,
  referenceOf,
  refuseClones,
  shown,
  usersInTheWay,
  type VolumeAddress,
  volumeIfKnown,
} from './volume.ts';

const rename = defineAction({
  name: 'volume.rename',
  summary: 'Gives a volume another name in its pool; it is the same volume.',
  role: 'operator',
  audited: true,
  input: volumeAddress.extend({ ...allowUsedField, ...renameVolumeSchema.shape }),
  answer: fleetVolumeSchema,
  async plan(services, input) {
    if (input.name === input.volume) throw new StowageError('invalid-argument', 'it has this name already');
    return usersInTheWay(services, input, input.allowUsed);
  },
  record: ({ name }, users) => ({ detail: listed(`to ${name}`, users) }),
  run: (services, { allowUsed, name, ...address }, { principal }) =>
    renameVolume(services, address, { name, allowUsed }, principal.name),
});

/** Throws `volume-exists`, and `volume-in-use` while somebody works on it, or under the name that it is to have. */
export async function renameVolume(
  services: Services,
  address: VolumeAddress,
  { name, allowUsed }: { name: string; allowUsed: boolean },
  by: string,
): Promise<FleetVolume> {
  const target = { ...address, volume: name };
  const holder = `rename by ${by}`;
  await using _target = await services.leases.acquire({ volume: referenceOf(target), mode: 'write', holder });
  const renamed = await changeVolume(services, address, holder, (agent, right) =>
    agent.json(volumeSchema, `${agentVolumePath(address)}/rename`, {
      ...{ method: 'POST', json: { name }, ...right, allowUsed, patient: true },
    }),
  );
  await services.inventory.shows(address, undefined);
  return shown(services, target, renamed);
}

const setBase = defineAction({
  name: 'volume.set-base',
  summary: 'Makes a base of a volume, which takes no write and has linked clones; or a volume of a base.',
  role: 'operator',
  audited: true,
  input: volumeAddress.extend({ ...allowUsedField, ...baseVolumeSchema.shape }),
  answer: fleetVolumeSchema,
  async plan(services, input, { principal }) {
    if (input.isBase) return usersInTheWay(services, input, input.allowUsed);
    const volume = await volumeIfKnown(services, input);
    if (volume) await refuseClones(services, volume, principal);
    return '';
  },
  record: ({ isBase }, users) => ({
    detail: listed(isBase ? 'takes no write any more' : 'takes writes again', users),
  }),
  async run(services, { allowUsed, isBase, ...address }, { principal }) {
    const volume = await changeVolume(services, address, `change by ${principal.name}`, (agent, right) =>
      agent.json(volumeSchema, `${agentVolumePath(address)}/base`, {
        ...{ method: 'PUT', json: { isBase }, ...right, allowUsed, patient: true },
      }),
    );
    return shown(services, address, volume);
  },
});

const setAttributes = defineAction({
  name: 'volume.set-attributes',
  summary: 'Changes the notes of a volume, and whether it is protected; what is not named stays.',
  role: 'operator',
  audited: true,
  input: volumeAddress.extend(volumeAttributesSchema.shape),
  answer: fleetVolumeSchema,
  record: ({ notes, isProtected }) => ({
    detail: listed(
      notes === undefined ? '' : notes === '' ? 'no notes' : `notes of ${notes.length} characters`,
      isProtected === undefined ? '' : isProtected ? 'protected' : 'not protected',
    ),
  }),
  async run(services, { notes, isProtected, ...address }, { principal }) {
    const volume = await changeVolume(services, address, `change by ${principal.name}`, (agent, right) =>
      agent.json(volumeSchema, `${agentVolumePath(address)}/attributes`, {
        ...{ method: 'PATCH', json: { notes, isProtected }, ...right, patient: true },
      }),
    );
    return shown(services, address, volume);
  },
});

export const attributeActions = [rename, setBase, setAttributes];
