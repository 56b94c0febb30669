import { z } from 'zod';
import { type BlockDevice, blockDeviceOf } from '../../shared/conf/blockdev.ts';
import { LONGEST_CHAIN } from '../../shared/formats/qcow2/chain.ts';
import type { FleetVolume } from '../../shared/protocol/api.ts';
import type { Inventory } from '../inventory/inventory.ts';
import { defineAction } from './action.ts';
import { volumeAddress } from './addresses.ts';

/** The node of what an overlay stands on, where that is a volume of its host and in the scopes; undefined where it is none that is known. */
async function backingOf(
  inventory: Inventory,
  { host, backingStore, parentId }: FleetVolume,
  scopes: readonly string[],
  depth = 0,
): Promise<BlockDevice | undefined> {
  if (!backingStore || parentId === undefined || depth > LONGEST_CHAIN) return undefined;
  const [parent] = await inventory.volumes({ host, id: parentId, scopes, limit: 1 });
  if (!parent) return undefined;
  const backing = await backingOf(inventory, parent, scopes, depth + 1);
  return {
    ...blockDeviceOf(await inventory.pool(host, parent.pool), parent, { backing }),
    'read-only': true,
  };
}

export const blockDevice = defineAction({
  name: 'volume.blockdev',
  summary: 'How QEMU on its host opens a volume: what -blockdev and blockdev-add take, without secrets.',
  role: 'viewer',
  input: volumeAddress.extend({
    nodeName: z
      .string()
      .regex(/^[A-Za-z][\w.-]{0,30}$/)
      .optional(),
  }),
  answer: z.looseObject({ driver: z.string() }),
  async run({ inventory }, { nodeName, ...address }, { principal }) {
    const volume = await inventory.volume(address);
    return blockDeviceOf(await inventory.pool(volume.host, volume.pool), volume, {
      nodeName,
      backing: await backingOf(inventory, volume, principal.scopes),
    });
  },
});
