import { Command, Option } from 'commander';
import type { Job, MigrationCheck } from '../../shared/protocol/api.ts';
import { DIGEST_ALGORITHMS } from '../../shared/transfer/digest.ts';
import { isStowageError } from '../../shared/util/errors.ts';
import { formatBytes, parseSize } from '../../shared/util/units.ts';
import { callJson } from './client.ts';
import { type Confirmation, confirm } from './confirm.ts';
import { watchJob } from './jobs.ts';
import { printable, show } from './output.ts';
import { volumePath, volumeReference } from './references.ts';
import { allowUsedOption, formatOption, secretOption, snapshotOption } from './volume-options.ts';

/** Waits for a job unless told not to, and says how it went. */
export async function finish(job: Job, wait: boolean, words: string): Promise<void> {
  if (!wait) return show(job, () => `job ${job.id} begun; see: stowage job watch ${job.id}`);
  const ended = await watchJob(job.id);
  await show(
    ended,
    () =>
      `${words} (job ${ended.id}${ended.wireBytes > 0 ? `, ${formatBytes(ended.wireBytes)} on the wire` : ''})`,
  );
}

interface MoveOptions extends Confirmation {
  allowUsed?: boolean;
  format?: string;
  secret?: string;
  limit?: string;
  digest: string;
  wait: boolean;
  dryRun?: boolean;
}

function checkWords({ problems, format, as, mostBytes }: MigrationCheck, words: string): string {
  if (problems.length > 0) return problems.map(({ code, message }) => `${message} [${code}]`).join('\n');
  const how = as === 'content' ? `its content becomes ${format}` : `it stays ${format}, as it is stored`;
  return `${words}: ${how}; ${formatBytes(mostBytes)} or less travel`;
}

async function move(
  source: string,
  target: string,
  how: {
    keepSource: boolean;
    refresh: boolean;
    deleteSnapshots?: boolean;
    snapshot?: string;
    withSnapshots?: boolean;
  },
  { allowUsed, format, secret, limit, digest, wait, dryRun, yes }: MoveOptions,
): Promise<void> {
  const limitBytesPerSecond = limit === undefined ? undefined : parseSize(limit.replace(/\/s$/, ''));
  const json = { target, ...how, digest, format, secret, limitBytesPerSecond, allowUsed: Boolean(allowUsed) };
  const path = `${volumePath(volumeReference(source))}/migrate`;
  if (dryRun) {
    const body = { ...json, replace: Boolean(yes) };
    const check = await callJson<MigrationCheck>(`${path}/check`, { method: 'POST', json: body });
    await show(check, () =>
      checkWords(check, `${source} can be ${how.keepSource ? 'copied' : 'moved'} to ${target}`),
    );
    if (check.problems.length > 0) process.exitCode = 4;
    return;
  }
  const begin = (replace: boolean): Promise<Job> =>
    callJson<Job>(path, { method: 'POST', json: { ...json, replace } });
  const job = await begin(Boolean(yes)).catch(async (error) => {
    if (!how.refresh || !isStowageError(error, 'volume-exists')) throw error;
    await confirm(`Replace what is in ${target}, which is not known as a copy of ${source}?`, {}, error);
    return begin(true);
  });
  const at = how.snapshot === undefined ? '' : `, as it was at ${printable(how.snapshot)},`;
  const words = how.refresh
    ? `${target} is up to date with ${source}${at.replace(/,$/, '')}`
    : `${source}${at} ${how.keepSource ? 'copied' : 'moved'} to ${target}`;
  await finish(job, wait, words);
}

const moveOptions = (command: Command): Command =>
  command
    .addOption(allowUsedOption())
    .addOption(formatOption('container format at the target'))
    .addOption(secretOption())
    .option('--limit <rate>', 'bytes a second, such as 50M')
    .addOption(
      new Option('--digest <algorithm>', 'how what arrives is checked')
        .choices(DIGEST_ALGORITHMS)
        .default('gmac'),
    )
    .option(
      '--dry-run',
      'look on both ends what would refuse it, and do nothing; exit status 4 where something would',
    )
    .option('--no-wait', 'do not wait for the end');

const withSnapshotsOption = (): Option =>
  new Option(
    '--with-snapshots',
    'with its snapshots: of raw volumes from ZFS to ZFS, and from btrfs to btrfs; with --refresh, on ZFS, a copy follows the snapshots of its source',
  ).conflicts('dryRun');

interface CopyOptions extends MoveOptions {
  refresh?: boolean;
  snapshot?: string;
  withSnapshots?: boolean;
}

export function migrateCommand(): Command {
  return moveOptions(
    new Command('migrate')
      .arguments('<host/pool/vol> <host/pool[/vol]>')
      .description('move a volume to another pool, straight from host to host')
      .option('--keep-source', 'copy instead of move; the same as vol copy')
      .addOption(withSnapshotsOption())
      .option('--delete-snapshots', 'also where it has snapshots that do not travel: they go with it'),
  ).action(
    (
      source: string,
      target: string,
      {
        keepSource,
        deleteSnapshots,
        withSnapshots,
        ...options
      }: MoveOptions & { keepSource?: boolean; deleteSnapshots?: boolean; withSnapshots?: boolean },
    ) => {
      const how = { keepSource: Boolean(keepSource), refresh: false, deleteSnapshots, withSnapshots };
      return move(source, target, how, options);
    },
  );
}

export function copyCommand(): Command {
  return moveOptions(
    new Command('copy')
      .arguments('<host/pool/vol> <host/pool[/vol]>')
      .description('copy a volume to another pool, straight from host to host')
      .option(
        '--refresh',
        'bring a copy up to date: only what differs travels, and the old copy stays until the new one is whole',
      )
      .addOption(
        new Option(
          '-y, --yes',
          'with --refresh: do not ask before it replaces what is not known as a copy of the source',
        ),
      )
      .addOption(withSnapshotsOption())
      .addOption(snapshotOption()),
  ).action(
    (source: string, target: string, { refresh = false, snapshot, withSnapshots, ...options }: CopyOptions) =>
      move(source, target, { keepSource: true, refresh, snapshot, withSnapshots }, options),
  );
}
