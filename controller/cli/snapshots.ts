import { Command } from 'commander';
import type { Snapshot } from '../../shared/conf/volume.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { callJson, send } from './client.ts';
import { type Confirmation, confirm, yesOption } from './confirm.ts';
import { bytesColumn, type Listing, type ListOptions, listOptions, showList } from './listing.ts';
import { printable, show } from './output.ts';
import { volumePath, volumeReference } from './references.ts';
import { allowUsedOption, usedQuery } from './volume-options.ts';

const SNAPSHOTS: Listing<Snapshot> = {
  name: ({ id }) => id,
  columns: [
    { name: 'CURRENT', value: ({ current }) => (current ? '*' : '') },
    { name: 'ID', value: ({ id }) => id },
    { name: 'PARENT', value: ({ parentId }) => parentId },
    bytesColumn('ALLOCATION', ({ allocationBytes }) => allocationBytes),
  ],
};

export function snapshotCommand(): Command {
  const snapshot = new Command('snapshot').description('snapshots of a volume');
  const path = (text: string, id?: string): string =>
    `${volumePath(volumeReference(text))}/snapshots${id ? `/${encodeURIComponent(id)}` : ''}`;
  snapshot
    .command('create <host/pool/vol> [id]')
    .description('take a snapshot; its id is a GUID for ploop and a name for qcow2, a new one when not given')
    .option('--id <id>', 'the same as [id]')
    .action(async (text: string, given: string | undefined, options: { id?: string }) => {
      const json = { id: given ?? options.id };
      await show(await callJson<{ id: string }>(path(text), { method: 'POST', json }), ({ id }) => id, {
        isRemark: false,
      });
    });
  listOptions(snapshot.command('list <host/pool/vol>'))
    .description('the snapshots of a volume; * is what its present content goes on from')
    .action((text: string, options: ListOptions) =>
      showList(SNAPSHOTS, () => callJson<Snapshot[]>(path(text)), options),
    );
  snapshot
    .command('switch <host/pool/vol> <snapshot>')
    .description('throw the present content away and continue from the snapshot')
    .addOption(allowUsedOption())
    .addOption(yesOption())
    .action(async (text: string, id: string, options: Confirmation & { allowUsed?: boolean }) => {
      await confirm(`Throw the present content of ${text} away?`, options);
      await send(`${path(text, id)}/switch${usedQuery(options)}`, { method: 'POST' });
      await show(
        { switched: text, to: id },
        () => `${printable(text)} goes on from snapshot ${printable(id)}`,
      );
    });
  snapshot
    .command('rename <host/pool/vol> <snapshot> <id>')
    .description('give a snapshot another id; on Ceph, ZFS, btrfs and thin pools of LVM')
    .action(async (text: string, id: string, to: string) => {
      await send(path(text, id), { method: 'PATCH', json: { id: to } });
      await show({ renamed: id, to }, () => `snapshot ${printable(id)} is ${printable(to)} now`);
    });
  snapshot
    .command('delete <host/pool/vol> <snapshot>')
    .description('delete a snapshot; the present content stays')
    .addOption(yesOption())
    .action(async (text: string, id: string, options: Confirmation) => {
      if (!id) throw new StowageError('invalid-argument', 'which snapshot?');
      await confirm(`Delete the snapshot ${id} of ${text}?`, options);
      await send(path(text, id), { method: 'DELETE' });
      await show({ deleted: id, of: text }, () => `snapshot ${printable(id)} of ${printable(text)} deleted`);
    });
  return snapshot;
}
