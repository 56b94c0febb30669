import { Command } from 'commander';
import { XML_TYPE } from '../../shared/conf/xml/write.ts';
import type { FleetPool } from '../../shared/protocol/api.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { formatBytes } from '../../shared/util/units.ts';
import { callJson, callText, send } from './client.ts';
import { type Confirmation, confirm, yesOption } from './confirm.ts';
import { editDocument } from './edit.ts';
import { bytesColumn, type Listing, type ListOptions, listOptions, showList } from './listing.ts';
import { fields, show } from './output.ts';
import { callPages } from './pages.ts';
import { asCommand } from './pool-as.ts';
import { hostPath, poolPath, poolReference } from './references.ts';
import { readDocument } from './xml.ts';

const POOLS: Listing<FleetPool> = {
  name: ({ host, name }) => `${host}/${name}`,
  columns: [
    { name: 'POOL', value: ({ host, name }) => `${host}/${name}` },
    { name: 'TYPE', value: (pool) => pool.type },
    { name: 'STATE', value: (pool) => pool.state },
    bytesColumn('CAPACITY', (pool) => pool.capacityBytes),
    bytesColumn('ALLOCATION', (pool) => pool.allocationBytes),
    bytesColumn('AVAILABLE', (pool) => pool.availableBytes),
    { name: 'TARGET', value: (pool) => pool.target.path },
    { name: 'REASON', value: (pool) => pool.reason, wide: true },
    { name: 'AUTOSTART', value: (pool) => (pool.autostart ? 'yes' : 'no'), wide: true },
    { name: 'UUID', value: (pool) => pool.uuid, wide: true },
  ],
};

function describe(pool: FleetPool): string {
  return fields([
    ['pool', `${pool.host}/${pool.name}`],
    ['uuid', pool.uuid],
    ['type', pool.type],
    ['target', pool.target.path],
    ['state', pool.state],
    ['reason', pool.reason],
    ['autostart', pool.autostart ? 'yes' : 'no'],
    ['capacity', formatBytes(pool.capacityBytes)],
    ['allocation', formatBytes(pool.allocationBytes)],
    ['available', formatBytes(pool.availableBytes)],
  ]);
}

interface CreateOptions {
  type?: string;
  target?: string;
  build: boolean;
  start: boolean;
  autostart: boolean;
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
    .description('a pool: its state, its target and its space')
    .action(
      async (reference: string) =>
        await show(await callJson<FleetPool>(poolPath(poolReference(reference))), describe),
    );
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
