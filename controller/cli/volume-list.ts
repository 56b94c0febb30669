import { Command, Option } from 'commander';
import type { FleetVolume } from '../../shared/protocol/api.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { splitReference } from '../../shared/util/references.ts';
import { bytesColumn, type Listing, type ListOptions, listOptions, showList } from './listing.ts';
import { callPages } from './pages.ts';
import { timeOf } from './times.ts';
import { formatOption } from './volume-options.ts';

const VOLUMES: Listing<FleetVolume> = {
  name: ({ host, pool, name }) => `${host}/${pool}/${name}`,
  columns: [
    { name: 'VOLUME', value: ({ host, pool, name }) => `${host}/${pool}/${name}` },
    { name: 'FORMAT', value: (volume) => volume.format },
    bytesColumn('CAPACITY', (volume) => volume.capacityBytes),
    bytesColumn('ALLOCATION', (volume) => volume.allocationBytes),
    {
      name: 'SNAPSHOTS',
      value: (volume) => volume.snapshotCount,
      text: (volume) => String(volume.snapshotCount || ''),
    },
    { name: 'DAMAGED', value: (volume) => volume.damaged },
    { name: 'TYPE', value: (volume) => volume.type, wide: true },
    { name: 'PATH', value: (volume) => volume.path, wide: true },
    { name: 'BASE', value: ({ isBase }) => (isBase ? '*' : undefined), wide: true },
    { name: 'PROTECTED', value: ({ isProtected }) => (isProtected ? '*' : undefined), wide: true },
    { name: 'BACKING', value: (volume) => volume.backingStore?.path, wide: true },
    { name: 'ID', value: (volume) => volume.id, wide: true },
  ],
};

interface VolumeListOptions extends ListOptions {
  format?: string;
  search?: string;
  user?: string;
  olderThan?: string;
  newerThan?: string;
}

function listVolumes(place: string | undefined, options: VolumeListOptions): Promise<FleetVolume[]> {
  const [host, pool, more] = place === undefined ? [] : splitReference(place);
  if (more !== undefined)
    throw new StowageError(
      'invalid-argument',
      `'${place}' is not HOST or HOST/POOL; one volume: stowage vol show ${place}`,
    );
  const { format, search, user, olderThan, newerThan } = options;
  const query = {
    ...{ host, pool, format, search, user },
    modifiedBefore: olderThan === undefined ? undefined : timeOf(olderThan),
    modifiedAfter: newerThan === undefined ? undefined : timeOf(newerThan),
  };
  return callPages('/volumes', query, (volume) => `${volume.host}/${volume.pool}/${volume.name}`);
}

export function volumeListCommand(): Command {
  return listOptions(new Command('list').argument('[host[/pool]]'), { followed: true })
    .description('volumes of the fleet, of a host or of a pool')
    .addOption(formatOption('only those of a container format'))
    .option('--search <text>', 'only those with this in their names; letters in either case')
    .option('--user <domain>', 'only those that a domain of this name uses')
    .option('--older-than <when>', 'only those not changed since: 90d, 12h ago, or a date such as 2026-11-24')
    .addOption(new Option('--newer-than <when>', 'only those changed since'))
    .action((place: string | undefined, options: VolumeListOptions) =>
      showList(VOLUMES, () => listVolumes(place, options), options),
    );
}
