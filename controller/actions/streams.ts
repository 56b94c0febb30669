import { z } from 'zod';
import { volumeSchema } from '../../shared/conf/volume.ts';
import { receiveStreamSchema, sendStreamSchema } from '../../shared/protocol/agent.ts';
import { fleetVolumeSchema } from '../../shared/protocol/api.ts';
import { namingOf, pveVolume } from '../../shared/pve/images.ts';
import { diskName } from '../../shared/pve/volume-names.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { agentHas, agentVolumePath } from '../hosts/agent-client.ts';
import { defineAction } from './action.ts';
import { volumeAddress } from './addresses.ts';
import { passOn } from './downloads.ts';
import { changeVolume, listed, shown, usersInTheWay, type VolumeAddress, volumeIfKnown } from './volume.ts';

const send = defineAction({
  name: 'volume.send-stream',
  summary: 'A volume as its storage itself writes it, as of a snapshot: by zfs send, or by btrfs send.',
  role: 'viewer',
  audited: true,
  input: volumeAddress.extend(sendStreamSchema.shape),
  answer: 'bytes',
  record: ({ format, snapshot, older, base }) => ({
    detail: listed(
      ...[format, `as of ${snapshot}`, base === undefined ? '' : `what has changed since ${base}`],
      older ? 'with the snapshots before it' : '',
    ),
  }),
  async run(services, { format, snapshot, older, base, ...address }, call) {
    const query = new URLSearchParams({ format, snapshot, older: String(older) });
    if (base !== undefined) query.set('base', base);
    return passOn(services, address, `${agentVolumePath(address)}/stream?${query}`, call);
  },
});

const receive = defineAction({
  name: 'volume.receive-stream',
  summary:
    'Makes a new volume of a stream that storage of the same kind has written, or brings one up to date, by a stream of what has changed since its last snapshot.',
  role: 'operator',
  audited: true,
  input: volumeAddress.extend({
    ...receiveStreamSchema.shape,
    /** Where the name is taken, another disk of the same guest is made: the next free one. */
    allowRename: z.boolean().default(false),
  }),
  answer: fleetVolumeSchema,
  async plan(services, { allowRename, base, ...address }) {
    const pool = await services.inventory.knownPool(address.host, address.pool);
    const { format = 'raw' } = pveVolume(namingOf(pool), address.volume) ?? {};
    if (format !== 'raw')
      throw new StowageError(
        'invalid-argument',
        `a stream of the storage makes a raw volume, and '${address.volume}' is the name of a ${format} one`,
      );
    if (base !== undefined) {
      if (allowRename)
        throw new StowageError(
          'invalid-argument',
          'what has changed goes onto the volume of the name, and no other',
        );
      await usersInTheWay(services, address, false);
      return undefined;
    }
    if (!(await volumeIfKnown(services, address))) return undefined;
    const naming = namingOf(pool);
    const vmid = allowRename ? pveVolume(naming, address.volume)?.vmid : undefined;
    if (vmid === undefined)
      throw new StowageError('volume-exists', `there is a volume '${address.volume}' already`);
    return { naming, vmid };
  },
  record: ({ format, snapshot, base }) => ({
    detail: listed(
      ...[format, snapshot === undefined ? '' : `as of ${snapshot}`],
      base === undefined ? '' : `onto what it held at ${base}`,
    ),
  }),
  async run(services, { format, snapshot, deleteSnapshot, base, allowRename: _, ...address }, call, another) {
    const { body } = call;
    if (!body) throw new StowageError('invalid-argument', 'the bytes of the volume are missing');
    const query = new URLSearchParams({ format });
    if (snapshot !== undefined) query.set('snapshot', snapshot);
    if (deleteSnapshot !== undefined) query.set('deleteSnapshot', deleteSnapshot);
    if (base !== undefined) query.set('base', base);
    const holder = `stream of ${call.principal.name}`;
    const into = async (target: VolumeAddress) => {
      // What is taken is seen before the first byte: they come once.
      if (
        base === undefined &&
        (await agentHas(await services.fleet.client(target.host), agentVolumePath(target)))
      )
        throw new StowageError('volume-exists', `there is a volume '${target.volume}' already`);
      const made = await changeVolume(services, target, holder, (agent, { fence }) =>
        agent.json(volumeSchema, `${agentVolumePath(target)}/stream?${query}`, {
          ...{
            method: 'PUT',
            body: { stream: body, type: 'application/octet-stream' },
            fence,
            patient: true,
          },
        }),
      );
      return shown(services, target, made);
    };
    if (!another) return into(address);
    const { naming, vmid } = another;
    const made = await services.diskNumbers.with(address, vmid, (number) =>
      into({ ...address, volume: diskName(naming, { vmid, number, format: 'raw' }) }),
    );
    call.note(made.name);
    return made;
  },
});

export const streamActions = [send, receive];
