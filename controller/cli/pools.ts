import { Command } from 'commander';
import type { Pool } from '../../shared/conf/pool.ts';
import { XML_TYPE } from '../../shared/conf/xml/write.ts';
import { formatBytes } from '../../shared/util/units.ts';
import type { PoolRow } from '../store/schema.ts';
import { call, callJson } from './client.ts';
import { fields, show, table } from './output.ts';
import { hostPath, poolPath, poolReference } from './references.ts';
import { readDocument } from './xml.ts';

type ListedPool = PoolRow & { host: string };

function describe(pool: ListedPool): string {
  return fields([
    ['pool', `${pool.host}/${pool.name}`],
    ['uuid', pool.uuid],
    ['type', pool.type],
    ['target', pool.target_path],
    ['state', pool.state],
    ['reason', pool.reason],
    ['autostart', pool.autostart ? 'yes' : 'no'],
    ['capacity', formatBytes(pool.capacity_bytes)],
    ['allocation', formatBytes(pool.allocation_bytes)],
    ['available', formatBytes(pool.available_bytes)],
  ]);
}

export function poolCommand(): Command {
  const pool = new Command('pool').description('storage pools');
  pool
    .command('create <host/pool>')
    .description('define, build and start a pool')
    .requiredOption('--type <type>', 'such as dir')
    .requiredOption('--target <path>', 'directory on the host')
    .option('--no-build', 'the storage is there already')
    .option('--no-start', 'only define it')
    .option('--no-autostart', 'do not start it with the agent')
    .action(
      async (
        reference: string,
        options: { type: string; target: string; build: boolean; start: boolean; autostart: boolean },
      ) => {
        const { host, pool: name } = poolReference(reference);
        const json = {
          name,
          type: options.type,
          target: { path: options.target },
          autostart: options.autostart,
          build: options.build,
          start: options.start,
        };
        const made = await callJson<Pool>(`${hostPath(host)}/pools`, { method: 'POST', json });
        show(
          made,
          () => `pool ${host}/${name} is ${made.state}, ${formatBytes(made.availableBytes)} available`,
        );
      },
    );
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
        const query = new URLSearchParams({
          build: String(Boolean(options.build)),
          start: String(Boolean(options.start)),
          autostart: String(options.autostart),
        });
        const made = await callJson<Pool>(`${hostPath(host)}/pools?${query}`, {
          method: 'POST',
          xml: await readDocument(file),
        });
        show(made, () => `pool ${host}/${made.name} is ${made.state}`);
      },
    );
  pool
    .command('dumpxml <host/pool>')
    .description("the pool as libvirt's document")
    .action(async (reference: string) => {
      const answer = await call(poolPath(poolReference(reference)), { accept: XML_TYPE });
      process.stdout.write(await answer.text());
    });
  pool.command('list [host]').action(async (host: string | undefined) => {
    const pools = await callJson<ListedPool[]>(`/pools${host ? `?host=${encodeURIComponent(host)}` : ''}`);
    show(pools, () =>
      table(
        ['POOL', 'TYPE', 'STATE', 'CAPACITY', 'ALLOCATION', 'AVAILABLE', 'TARGET'],
        pools.map((row) => [
          `${row.host}/${row.name}`,
          row.type,
          row.state,
          formatBytes(row.capacity_bytes),
          formatBytes(row.allocation_bytes),
          formatBytes(row.available_bytes),
          row.target_path,
        ]),
      ),
    );
  });
  pool
    .command('show <host/pool>')
    .action(async (reference: string) =>
      show(await callJson<ListedPool>(poolPath(poolReference(reference))), describe),
    );
  for (const action of ['start', 'stop', 'refresh'] as const) {
    pool.command(`${action} <host/pool>`).action(async (reference: string) => {
      const changed = await callJson<Pool>(`${poolPath(poolReference(reference))}/${action}`, {
        method: 'POST',
      });
      show(changed, () => `pool ${reference} is ${changed.state}`);
    });
  }
  pool
    .command('delete <host/pool>')
    .description('undefine a stopped pool; its volumes stay unless --storage removes the empty directory')
    .option('--storage', 'delete the empty directory too')
    .action(async (reference: string, options: { storage?: boolean }) => {
      await call(`${poolPath(poolReference(reference))}?storage=${Boolean(options.storage)}`, {
        method: 'DELETE',
      });
    });
  return pool;
}
