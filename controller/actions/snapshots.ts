import { z } from 'zod';
import { snapshotSchema } from '../../shared/conf/volume.ts';
import { renameSnapshotSchema, snapshotBodySchema, snapshotIdSchema } from '../../shared/protocol/agent.ts';
import { agentVolumePath } from '../hosts/agent-client.ts';
import { defineAction } from './action.ts';
import { volumeAddress } from './addresses.ts';
import { allowUsedField, changeVolume, listed, usersInTheWay, type VolumeAddress } from './volume.ts';

const snapshotAddress = volumeAddress.extend({ snapshot: snapshotIdSchema });

const snapshotsOf = (address: VolumeAddress): string => `${agentVolumePath(address)}/snapshots`;
const agentPath = (address: z.infer<typeof snapshotAddress>): string =>
  `${snapshotsOf(address)}/${encodeURIComponent(address.snapshot)}`;

const list = defineAction({
  name: 'snapshot.list',
  summary: 'The snapshots in a volume.',
  role: 'viewer',
  input: volumeAddress,
  answer: z.array(snapshotSchema),
  async run({ fleet }, address) {
    const agent = await fleet.client(address.host);
    return agent.json(z.array(snapshotSchema), snapshotsOf(address));
  },
});

const create = defineAction({
  name: 'snapshot.create',
  summary: 'Takes a snapshot of a volume.',
  role: 'operator',
  audited: true,
  input: volumeAddress.extend(snapshotBodySchema.shape),
  answer: z.object({ id: z.string() }),
  record: ({ id }) => ({ detail: id }),
  async run(services, { id, ...address }, { principal, note }) {
    const made = await changeVolume(services, address, `snapshot by ${principal.name}`, (agent, right) =>
      agent.json(z.object({ id: z.string() }), snapshotsOf(address), {
        method: 'POST',
        json: { id },
        ...right,
        patient: true,
      }),
    );
    if (id === undefined) note(made.id);
    return made;
  },
});

const switchTo = defineAction({
  name: 'snapshot.switch',
  summary: 'Throws the present content of a volume away and goes on from a snapshot.',
  role: 'operator',
  audited: true,
  input: snapshotAddress.extend(allowUsedField),
  answer: 'nothing',
  plan: (services, input) => usersInTheWay(services, input, input.allowUsed),
  record: ({ snapshot }, users) => ({ detail: listed(snapshot, users) }),
  run: (services, { allowUsed, ...address }, { principal }) =>
    changeVolume(services, address, `snapshot switch by ${principal.name}`, (agent, right) =>
      agent.send(`${agentPath(address)}/switch`, { method: 'POST', ...right, allowUsed, patient: true }),
    ),
});

const rename = defineAction({
  name: 'snapshot.rename',
  summary: 'Gives a snapshot another id, where its storage can; what it holds stays.',
  role: 'operator',
  audited: true,
  input: snapshotAddress.extend(renameSnapshotSchema.shape),
  answer: 'nothing',
  record: ({ snapshot, id }) => ({ detail: `${snapshot} to ${id}` }),
  run: (services, { id, ...address }, { principal }) =>
    changeVolume(services, address, `snapshot rename by ${principal.name}`, (agent, right) =>
      agent.send(agentPath(address), { method: 'PATCH', json: { id }, ...right, patient: true }),
    ),
});

const remove = defineAction({
  name: 'snapshot.delete',
  summary: 'Deletes a snapshot; the present content stays.',
  role: 'operator',
  audited: true,
  input: snapshotAddress,
  answer: 'nothing',
  record: ({ snapshot }) => ({ detail: snapshot }),
  run: (services, address, { principal }) =>
    changeVolume(services, address, `snapshot delete by ${principal.name}`, (agent, right) =>
      agent.send(agentPath(address), { method: 'DELETE', ...right, patient: true }),
    ),
});

export const snapshotActions = [list, create, rename, switchTo, remove];
