import { Command, Option } from 'commander';
import type { TrashedVolume, Wiped } from '../../shared/conf/trash.ts';
import type { FleetPool, FleetVolume } from '../../shared/protocol/api.ts';
import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { splitReference } from '../../shared/util/references.ts';
import { callJson, send } from './client.ts';
import { type Confirmation, confirm, yesOption } from './confirm.ts';
import { beginFreeing, type FreeingOptions, freeingOptions } from './freeing.ts';
import { bytesColumn, type Listing, type ListOptions, listOptions, showList, timeColumn } from './listing.ts';
import { printable, show } from './output.ts';
import { callPages } from './pages.ts';
import { poolPath, poolReference, volumeReference } from './references.ts';
import { timeOf } from './times.ts';
import { tryAll } from './try-all.ts';

/** Named one by one. */
const MOST_NAMES = 20;

/** Of what is to be overwritten before it goes. */
const percentOf = ({ doneBytes, totalBytes }: Wiped): string =>
  totalBytes ? `${Math.floor((doneBytes * 100) / totalBytes)} %` : '0 %';

type Row = TrashedVolume & { place: string };

const TRASHED: Listing<Row> = {
  name: ({ place, id }) => `${place}/${id}`,
  columns: [
    { name: 'TRASHED', value: ({ place, id }) => `${place}/${id}` },
    { name: 'NAME', value: ({ volume }) => volume.name },
    { name: 'FORMAT', value: ({ volume }) => volume.format },
    bytesColumn('CAPACITY', ({ volume }) => volume.capacityBytes),
    bytesColumn('ALLOCATION', ({ volume }) => volume.allocationBytes),
    timeColumn('SINCE', ({ trashedAt }) => trashedAt),
    timeColumn('KEPT-UNTIL', ({ keepUntil }) => keepUntil),
    { name: 'OVERWRITTEN', value: ({ wiped }) => wiped && percentOf(wiped) },
    { name: 'BY', value: ({ by }) => by },
    { name: 'VOLUME-ID', value: ({ volume }) => volume.id, wide: true },
    { name: 'SNAPSHOTS', value: ({ volume }) => volume.snapshotCount, wide: true },
  ],
};

async function trashOf(place: string): Promise<Row[]> {
  const all = await callPages<TrashedVolume>(
    `${poolPath(poolReference(place))}/trash`,
    {},
    ({ trashedAt, id }) => `${trashedAt}-${id}`,
  );
  return all.map((trashed) => ({ ...trashed, place }));
}

/** Of one pool, or of all pools of a host, or of the fleet, that are known to have something in it. */
async function listed(place: string | undefined): Promise<Row[]> {
  const [host, pool] = place === undefined ? [] : splitReference(place);
  if (pool !== undefined) return trashOf(place!);
  const pools = await callPages<FleetPool>('/pools', { host }, (row) => `${row.host}/${row.name}`);
  const rows: Row[] = [];
  let failure: unknown;
  for (const each of pools) {
    if (!each.trash) continue;
    const at = `${each.host}/${each.name}`;
    try {
      rows.push(...(await trashOf(at)));
    } catch (error) {
      failure ??= error;
      // What one host cannot tell keeps nobody from the others.
      process.stderr.write(
        `stowage: ${printable(at)}: ${printable(String(error instanceof Error ? error.message : error))}\n`,
      );
    }
  }
  // Whoever reads the list shall know that it is not whole.
  if (failure !== undefined) process.exitCode = 1;
  return rows;
}

interface EmptyOptions extends Confirmation, FreeingOptions {
  unwiped?: boolean;
  all?: boolean;
  expired?: boolean;
  before?: string;
}

async function empty(place: string, ids: readonly string[], options: EmptyOptions): Promise<void> {
  const { all, expired, before } = options;
  if (options.limit !== undefined && !options.wipe)
    throw new StowageError('invalid-argument', '--limit goes with --wipe');
  const ways = [ids.length > 0, all, expired, before !== undefined].filter(Boolean).length;
  if (ways !== 1)
    throw new StowageError(
      'invalid-argument',
      'what is to be deleted? Give ids, or one of --expired, --before and --all',
    );
  const trashed = await trashOf(place);
  const wanted = new Set(ids);
  const there = new Set(trashed.map(({ id }) => id));
  const missing = ids.find((id) => !there.has(id));
  if (missing !== undefined)
    throw new StowageError('volume-not-found', `nothing in the trash of ${place} has the id ${missing}`);
  const now = clock.now();
  const limit = before === undefined ? undefined : timeOf(before);
  const chosen = trashed.filter(
    ({ id, trashedAt, keepUntil }) =>
      all || wanted.has(id) || (expired && keepUntil <= now) || (limit !== undefined && trashedAt < limit),
  );
  if (chosen.length > 0) await confirm(`Delete for ever: ${namesOf(chosen)}?`, options);
  const jobs: number[] = [];
  const { done: deleted, failure } = await tryAll(chosen, async ({ id }) => {
    const path = `${poolPath(poolReference(place))}/trash/${id}`;
    if (options.wipe) jobs.push(await beginFreeing(`${path}/free`, options.limit));
    else await send(`${path}?unwiped=${Boolean(options.unwiped)}`, { method: 'DELETE' });
  });
  if (failure === undefined || deleted.length > 0)
    await show({ deleted: deleted.map(({ id }) => id) }, () =>
      deleted.length > 0
        ? `${options.wipe ? 'to be overwritten, and then deleted' : 'deleted for ever'}: ${printable(namesOf(deleted))}${jobs.length > 0 ? ` (jobs ${jobs.join(' ')})` : ''}`
        : 'nothing was to be deleted',
    );
  if (failure !== undefined) throw failure;
}

/** The first of many names, and how many more there are. */
function namesOf(trashed: readonly TrashedVolume[]): string {
  const names = trashed.slice(0, MOST_NAMES).map(({ volume }) => volume.name);
  const more = trashed.length - names.length;
  return `${names.join(' ')}${more > 0 ? ` and ${more} more` : ''}`;
}

export function trashCommand(): Command {
  const trash = new Command('trash').description('volumes that were deleted and are kept for a while');
  listOptions(trash.command('list [place]'))
    .description('what lies in the trash of HOST/POOL, of HOST, or of the fleet, the oldest first')
    .action((place: string | undefined, options: ListOptions) =>
      showList(TRASHED, () => listed(place), options),
    );
  trash
    .command('restore <host/pool/id> [name]')
    .description('give a volume its name again, or another one')
    .action(async (text: string, name: string | undefined) => {
      const { host, pool, volume: id } = volumeReference(text);
      const path = `${poolPath({ host, pool })}/trash/${encodeURIComponent(id)}/restore`;
      const restored = await callJson<FleetVolume>(path, { method: 'POST', json: { name } });
      await show(restored, () => `${printable(`${host}/${pool}/${restored.name}`)} is there again`);
    });
  trash
    .command('empty <host/pool> [ids...]')
    .description('delete what lies in a trash for ever')
    .option('--expired', 'what need not be kept any longer')
    .option('--before <time>', 'what was deleted before: a date, or so long ago, such as 30d')
    .option('--all', 'everything')
    .addOption(freeingOptions.wipe())
    .addOption(freeingOptions.limit())
    .addOption(
      new Option('--unwiped', 'also what is to be overwritten before, and cannot be').conflicts('wipe'),
    )
    .addOption(yesOption())
    .action(empty);
  return trash;
}
