import { Command } from 'commander';
import type { Orphan } from '../../shared/conf/orphan.ts';
import { DEFAULT_LIMITS, limitsText } from '../../shared/conf/pool-limits.ts';
import type { Forecast, PoolForecast } from '../../shared/conf/pool-usage.ts';
import { XML_TYPE } from '../../shared/conf/xml/write.ts';
import type { FleetPool, HeldLock, PoolDetails } from '../../shared/protocol/api.ts';
import { shownState } from '../../shared/protocol/pool-state.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { formatBytes, usedShare } from '../../shared/util/units.ts';
import { callJson, callText, send } from './client.ts';
import { type Confirmation, confirm, yesOption } from './confirm.ts';
import { editDocument } from './edit.ts';
import { bytesColumn, type Listing, type ListOptions, listOptions, showList, timeColumn } from './listing.ts';
import { fields, show } from './output.ts';
import { callPages } from './pages.ts';
import { asCommand } from './pool-as.ts';
import { readDocument } from './read-document.ts';
import { hostPath, poolPath, poolReference } from './references.ts';

type FoundOrphan = Orphan & { madeBy?: string };

const LOCKS: Listing<HeldLock> = {
  name: ({ volume }) => volume,
  columns: [
    { name: 'VOLUME', value: ({ volume }) => volume },
    { name: 'MODE', value: ({ mode }) => mode },
    timeColumn('SINCE', ({ acquiredAt }) => acquiredAt),
    { name: 'HOLDER', value: ({ holder }) => holder },
    { name: 'TOKEN', value: ({ token }) => token, wide: true },
  ],
};

const ORPHANS: Listing<FoundOrphan> = {
  name: ({ path }) => path,
  columns: [
    { name: 'PATH', value: ({ path }) => path },
    {
      name: 'ALLOCATION',
      value: ({ allocationBytes }) => allocationBytes,
      text: ({ allocationBytes }) => (allocationBytes === undefined ? '' : formatBytes(allocationBytes)),
    },
    timeColumn('CHANGED', ({ modifiedAt }) => modifiedAt),
    { name: 'MADE-BY', value: ({ madeBy }) => madeBy },
    { name: 'USED-BY', value: ({ users }) => users.join(', ') },
    { name: 'WHAT', value: ({ what }) => what },
  ],
};

const fillMark = ({ fill }: FleetPool): string => (fill === undefined || fill === 'normal' ? '' : ` ${fill}`);

const POOLS: Listing<FleetPool> = {
  name: ({ host, name }) => `${host}/${name}`,
  columns: [
    { name: 'POOL', value: ({ host, name }) => `${host}/${name}` },
    { name: 'TYPE', value: (pool) => pool.type },
    { name: 'STATE', value: shownState },
    bytesColumn('CAPACITY', (pool) => pool.capacityBytes),
    bytesColumn('ALLOCATION', (pool) => pool.allocationBytes),
    bytesColumn('AVAILABLE', (pool) => pool.availableBytes),
    {
      name: 'USED',
      value: usedShare,
      text: (pool) => (usedShare(pool) === undefined ? '' : `${usedShare(pool)} %${fillMark(pool)}`),
    },
    { name: 'TARGET', value: (pool) => pool.target.path },
    { name: 'FILL', value: (pool) => pool.fill, wide: true },
    {
      ...bytesColumn('PROVISIONED', (pool: FleetPool) => pool.provisionedBytes ?? 0),
      wide: true,
    },
    { name: 'REASON', value: (pool) => pool.reason, wide: true },
    { name: 'AUTOSTART', value: (pool) => (pool.autostart ? 'yes' : 'no'), wide: true },
    { name: 'UUID', value: (pool) => pool.uuid, wide: true },
  ],
};

const counted = (volumes: number): string => (volumes === 1 ? '1 volume' : `${volumes} volumes`);

const DAY_MS = 24 * 3600_000;

/** `3.20 GiB a day (2.80 to 3.60), full in 12 days (10 to 14)`. */
function forecastText(forecast: Forecast | undefined): string | undefined {
  if (!forecast) return undefined;
  const { bytesPerDay, errorBytesPerDay, to, fullAt, fullAtEarliest, fullAtLatest } = forecast;
  const signed = (bytes: number): string => `${bytes < 0 ? '-' : ''}${formatBytes(Math.abs(bytes))}`;
  const rate = `${signed(bytesPerDay)} a day (${signed(bytesPerDay - errorBytesPerDay)} to ${signed(bytesPerDay + errorBytesPerDay)})`;
  const days = (at: number): string => ((at - to) / DAY_MS).toFixed((at - to) / DAY_MS < 10 ? 1 : 0);
  if (fullAtEarliest === undefined) return `${rate}, does not fill up`;
  if (fullAt === undefined) return `${rate}, not full before ${days(fullAtEarliest)} days`;
  const latest = fullAtLatest === undefined ? 'never' : days(fullAtLatest);
  return `${rate}, full in ${days(fullAt)} days (${days(fullAtEarliest)} to ${latest})`;
}

function describe(pool: PoolDetails & { forecast?: PoolForecast }): string {
  const { metadata, provisionedBytes, forecast } = pool;
  const share = (part: number, whole: number): string =>
    whole > 0 ? ` (${Math.round((100 * part) / whole)} %)` : '';
  const isAway = shownState(pool) === 'away';
  return fields([
    ['pool', `${pool.host}/${pool.name}`],
    ['uuid', pool.uuid],
    ['type', pool.type],
    ['managed by', pool.managedBy && 'Proxmox VE'],
    ['target', pool.target.path],
    ['same storage', pool.sameStorage.join(' ')],
    ['state', isAway ? `away; ${pool.state} when its host was heard of last` : pool.state],
    ['reason', pool.reason],
    ['autostart', pool.autostart ? 'yes' : 'no'],
    ['capacity', formatBytes(pool.capacityBytes)],
    ['allocation', formatBytes(pool.allocationBytes)],
    ['available', formatBytes(pool.availableBytes)],
    [
      'metadata',
      metadata &&
        `${formatBytes(metadata.allocationBytes)} of ${formatBytes(metadata.capacityBytes)}${share(metadata.allocationBytes, metadata.capacityBytes)}`,
    ],
    [
      'provisioned',
      provisionedBytes !== undefined
        ? `${formatBytes(provisionedBytes)}${share(provisionedBytes, pool.capacityBytes)}`
        : undefined,
    ],
    ['fill', pool.fill],
    ['trash', pool.trash && `${counted(pool.trash.volumeCount)}, ${formatBytes(pool.trash.allocationBytes)}`],
    ['limits', limitsText(pool.limits ?? DEFAULT_LIMITS)],
    ['growth', forecastText(forecast?.data)],
    ['metadata growth', forecastText(forecast?.metadata)],
  ]);
}

interface CreateOptions {
  type?: string;
  target?: string;
  build: boolean;
  start: boolean;
  autostart: boolean;
}

interface LimitOptions {
  warning?: number;
  critical?: number;
  provisioned?: number;
  reset?: boolean;
}

function percentOf(text: string): number {
  const percent = Number(text.replace(/\s*%$/, ''));
  if (text.trim() === '' || !Number.isFinite(percent))
    throw new StowageError('invalid-argument', `'${text}' is no percentage, such as 80`);
  return percent;
}

const LIFE = {
  start: 'make the storage of a pool available on its host, such as by mounting it',
  stop: 'let go of the storage of a pool; what is on it stays',
  refresh: 'look at everything in a pool again',
};

async function definePool(
  host: string,
  file: string,
  { build, start, autostart }: Pick<CreateOptions, 'build' | 'start' | 'autostart'>,
): Promise<FleetPool> {
  const query = `build=${build}&start=${start}&autostart=${autostart}`;
  const xml = await readDocument(file);
  return await callJson<FleetPool>(`${hostPath(host)}/pools?${query}`, { method: 'POST', xml });
}

export function poolCommand(): Command {
  const pool = new Command('pool').description('storage pools');
  pool
    .command('create <place> [file]')
    .description("define, build and start HOST/POOL by options, or a pool on HOST from libvirt's document")
    .option('--type <type>', 'such as dir')
    .option('--target <path>', 'directory on the host')
    .option('--no-build', 'the storage is there already')
    .option('--no-start', 'only define it')
    .option('--no-autostart', 'do not start it with the agent')
    .action(async (place: string, file: string | undefined, options: CreateOptions) => {
      const { build, start, autostart } = options;
      if (file !== undefined) {
        const made = await definePool(place, file, { build, start, autostart });
        await show(made, () => `pool ${place}/${made.name} is ${made.state}`);
        return;
      }
      const { host, pool: name } = poolReference(place);
      const { type, target: path } = options;
      if (type === undefined || path === undefined)
        throw new StowageError('invalid-argument', 'a new pool needs --type and --target, or a document');
      const json = { name, type, target: { path }, autostart, build, start };
      const made = await callJson<FleetPool>(`${hostPath(host)}/pools`, { method: 'POST', json });
      await show(
        made,
        () => `pool ${host}/${name} is ${made.state}, ${formatBytes(made.availableBytes)} available`,
      );
    });
  pool
    .command('define <host> <file>')
    .description("define a pool from libvirt's document; - reads standard input")
    .option('--build', 'make its storage')
    .option('--start', 'start it')
    .option('--no-autostart', 'do not start it with the agent')
    .action(
      async (
        host: string,
        file: string,
        options: { build?: boolean; start?: boolean; autostart: boolean },
      ) => {
        const made = await definePool(host, file, {
          build: Boolean(options.build),
          start: Boolean(options.start),
          autostart: options.autostart,
        });
        await show(made, () => `pool ${host}/${made.name} is ${made.state}`);
      },
    );
  pool
    .command('dumpxml <host/pool>')
    .description("the pool as libvirt's document")
    .action(async (reference: string) => {
      process.stdout.write(await callText(poolPath(poolReference(reference)), { accept: XML_TYPE }));
    });
  pool.addCommand(asCommand('create-as'));
  pool.addCommand(asCommand('define-as'));
  pool
    .command('edit <host/pool>')
    .description("change what a stopped pool is, as libvirt's document, in $VISUAL or $EDITOR")
    .action(async (reference: string) => {
      const path = poolPath(poolReference(reference));
      const before = await callText(path, { accept: XML_TYPE });
      const changed = await editDocument(before, async (xml) => {
        await callJson<FleetPool>(path, { method: 'PUT', xml });
      });
      await show({ changed }, () => (changed ? `pool ${reference} edited` : `pool ${reference} not changed`));
    });
  pool
    .command('capabilities <host>')
    .description("which pools the host can have, as libvirt's document")
    .action(async (host: string) => {
      process.stdout.write(await callText(`${hostPath(host)}/pool-capabilities`, { accept: XML_TYPE }));
    });
  pool
    .command('find-sources <host> <type>')
    .description("what a pool of the type could be made of, as libvirt's document")
    .option('--source-host <name>', 'another host to look on')
    .action(async (host: string, type: string, options: { sourceHost?: string }) => {
      const query =
        options.sourceHost === undefined ? '' : `?sourceHost=${encodeURIComponent(options.sourceHost)}`;
      const path = `${hostPath(host)}/pool-sources/${encodeURIComponent(type)}${query}`;
      process.stdout.write(await callText(path, { accept: XML_TYPE }));
    });
  listOptions(pool.command('list [host]'), { followed: true })
    .description('pools, their state and their space')
    .action((host: string | undefined, options: ListOptions) =>
      showList(
        POOLS,
        () => callPages<FleetPool>('/pools', { host }, (row) => `${row.host}/${row.name}`),
        options,
      ),
    );
  pool
    .command('show <host/pool>')
    .description('a pool: its state, its target, its space, and how it fills up')
    .action(async (reference: string) => {
      const path = poolPath(poolReference(reference));
      // What is known of the pool is told while its host is away, too.
      const [found, forecast] = await Promise.all([
        callJson<PoolDetails>(path),
        callJson<PoolForecast>(`${path}/forecast`).catch(() => undefined),
      ]);
      await show({ ...found, forecast }, describe);
    });
  listOptions(pool.command('locks <host/pool>'))
    .description('who may change or read which volume of a pool now, on whatever host')
    .action((reference: string, options: ListOptions) =>
      showList(LOCKS, () => callJson<HeldLock[]>(`${poolPath(poolReference(reference))}/locks`), options),
    );
  listOptions(pool.command('orphans <host/pool>'))
    .description('what lies in a pool and is no volume of anybody, with what is known of it')
    .action((reference: string, options: ListOptions) =>
      showList(
        ORPHANS,
        () => callJson<FoundOrphan[]>(`${poolPath(poolReference(reference))}/orphans`),
        options,
      ),
    );
  pool
    .command('limit <host/pool>')
    .description('from when on a pool counts as nearly full, and how much its volumes may have together')
    .option('--warning <percent>', 'of what is in use, data or metadata (80)', percentOf)
    .option('--critical <percent>', 'the same (95)', percentOf)
    .option(
      '--provisioned <percent>',
      'the capacities of its volumes, of its own; more is refused',
      percentOf,
    )
    .option('--reset', 'the usual limits')
    .action(async (reference: string, options: LimitOptions) => {
      const path = poolPath(poolReference(reference));
      const { warning, critical, provisioned, reset } = options;
      if (!reset && warning === undefined && critical === undefined && provisioned === undefined)
        throw new StowageError(
          'invalid-argument',
          'which limit? Give --warning, --critical, --provisioned or --reset',
        );
      const before = (await callJson<FleetPool>(path)).limits ?? DEFAULT_LIMITS;
      const limits = {
        warningPercent: warning ?? before.warningPercent,
        criticalPercent: critical ?? before.criticalPercent,
        provisionedPercent: provisioned ?? before.provisionedPercent,
      };
      const changed = await callJson<FleetPool>(`${path}/limits`, {
        method: 'PUT',
        json: { limits: reset ? undefined : limits },
      });
      await show(changed, () => `pool ${reference}: ${limitsText(changed.limits ?? DEFAULT_LIMITS)}`);
    });
  pool
    .command('build <host/pool>')
    .description('make the storage of a stopped pool: its directory, its file system, its volume group')
    .option('--overwrite', 'format the storage, whatever is there')
    .option('--no-overwrite', 'format the storage, unless something is there')
    .addOption(yesOption())
    .action(async (reference: string, options: Confirmation & { overwrite?: boolean }) => {
      const { overwrite } = options;
      if (overwrite) await confirm(`Format the storage of ${reference}, whatever is on it?`, options);
      const query = overwrite === undefined ? '' : `?overwrite=${overwrite}`;
      await send(`${poolPath(poolReference(reference))}/build${query}`, { method: 'POST' });
      await show({ built: reference }, () => `pool ${reference} is built`);
    });
  for (const action of ['start', 'stop', 'refresh'] as const)
    pool
      .command(`${action} <host/pool>`)
      .description(LIFE[action])
      .action(async (reference: string) => {
        const changed = await callJson<FleetPool>(`${poolPath(poolReference(reference))}/${action}`, {
          method: 'POST',
        });
        await show(changed, () => `pool ${reference} is ${changed.state}`);
      });
  pool
    .command('delete <host/pool>')
    .description('undefine a stopped pool; its volumes stay unless --storage removes the empty directory')
    .option('--storage', 'delete the empty directory too')
    .addOption(yesOption())
    .action(async (reference: string, options: Confirmation & { storage?: boolean }) => {
      await confirm(
        `Undefine the pool ${reference}${options.storage ? ' and delete its directory' : ''}?`,
        options,
      );
      await send(`${poolPath(poolReference(reference))}?storage=${Boolean(options.storage)}`, {
        method: 'DELETE',
      });
      await show({ deleted: reference }, () => `pool ${reference} is not defined any more`);
    });
  return pool;
}
