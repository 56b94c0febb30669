import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Command, Option } from 'commander';
import type { AuditRecord, AuditVerdict, AuditWitnesses } from '../../shared/protocol/api.ts';
import { AUDIT_OUTCOMES } from '../../shared/protocol/lists.ts';
import { call, callJson } from './client.ts';
import { type Listing, type ListOptions, listOptions, showList, timeColumn } from './listing.ts';
import { count } from './numbers.ts';
import { show, time } from './output.ts';
import { timeOf } from './times.ts';

interface AuditOptions extends ListOptions {
  limit: number;
  since?: string;
  by?: string;
  host?: string;
  on?: string;
  until?: string;
  action?: string;
  outcome?: string;
}

const RECORDS: Listing<AuditRecord> = {
  name: ({ seq }) => String(seq),
  columns: [
    { name: 'SEQ', value: (record) => record.seq },
    timeColumn('TIME', (record) => record.at),
    { name: 'WHO', value: (record) => record.actor },
    { name: 'FROM', value: (record) => record.source },
    { name: 'ACTION', value: (record) => record.action },
    { name: 'ON', value: (record) => record.target },
    { name: 'OUTCOME', value: (record) => record.outcome },
    { name: 'DETAIL', value: (record) => record.detail },
    { name: 'HASH', value: (record) => record.hash, wide: true },
  ],
};

type WitnessRow = AuditWitnesses['witnesses'][number];

const WITNESSES: Listing<WitnessRow> = {
  name: ({ name }) => name,
  columns: [
    { name: 'WITNESS', value: ({ name }) => name },
    { name: 'RECORD', value: ({ seq }) => seq },
    timeColumn('SEEN', ({ at }) => at),
    { name: 'REASON', value: ({ reason }) => reason },
  ],
};

function verdictWords({ ok, records, first, head, witnessed, badSeq, reason }: AuditVerdict): string {
  if (!ok)
    return badSeq === undefined
      ? `THE TRAIL IS NOT THE ONE THAT WAS WITNESSED: ${reason}`
      : `THE TRAIL WAS TAMPERED WITH at record ${badSeq}: ${reason}`;
  const before = first === 1 ? '' : ` after record ${first - 1}, which is in archives with those before`;
  return [
    `the trail is whole: ${records} records${before}, signed up to ${head?.hash.slice(0, 16)}`,
    ...witnessed.map(({ name, seq, at }) =>
      at === 0
        ? `its own checkpoints in a file go up to record ${seq}`
        : `${name} has seen it up to record ${seq}, at ${time(at)}`,
    ),
  ].join('\n');
}

const COLUMNS: (keyof AuditRecord)[] = [
  'seq',
  'at',
  'actor',
  'source',
  'action',
  'target',
  'outcome',
  'detail',
  'previous',
  'hash',
];

/** The records of an export, without what is signed. */
async function* recordsOf(response: AsyncIterable<Buffer>): AsyncGenerator<AuditRecord> {
  for await (const line of createInterface({ input: Readable.from(response) })) {
    const row = JSON.parse(line) as AuditRecord | object;
    if ('action' in row) yield row;
  }
}

export function auditCommand(): Command {
  const audit = new Command('audit').description('who did what');
  listOptions(audit.command('list'))
    .description('the newest records')
    .option('--limit <count>', 'how many', count, 50)
    .option('--since <when>', 'not before: 90m, 2h, 7d ago, or a date such as 2026-11-24 or 2026-11-24T16:00')
    .option('--until <when>', 'only before this')
    .option(
      '--action <action>',
      'only this, such as volume.delete, or with a dot at the end all such, as volume.',
    )
    .addOption(new Option('--outcome <outcome>', 'only with this').choices(AUDIT_OUTCOMES))
    .option('--by <actor>', 'only what one did, such as the name of a token')
    .option('--host <host>', 'only what was done to a host, its pools and volumes')
    .option('--on <target>', 'only what was done to exactly this, such as host/pool/vol')
    .action(({ limit, since, until, action, outcome, by, host, on, ...options }: AuditOptions) => {
      const query = new URLSearchParams({ limit: String(limit) });
      if (since !== undefined) query.set('since', String(timeOf(since)));
      if (until !== undefined) query.set('until', String(timeOf(until)));
      if (action !== undefined) query.set('action', action);
      if (outcome !== undefined) query.set('outcome', outcome);
      if (by !== undefined) query.set('actor', by);
      if (host !== undefined) query.set('host', host);
      if (on !== undefined) query.set('target', on);
      return showList(RECORDS, () => callJson<AuditRecord[]>(`/audit?${query}`), options);
    });
  audit
    .command('verify')
    .description('check every record and signature; exit status 1 when something was tampered with')
    .action(async () => {
      const verdict = await callJson<AuditVerdict>('/audit/verify');
      await show(verdict, () => verdictWords(verdict));
      if (!verdict.ok) process.exitCode = 1;
    });
  listOptions(audit.command('witnesses'))
    .description('who sees the trail grow, from outside, and up to which record')
    .option('--key', 'what a witness is told: the key of this trail')
    .action(async ({ key, ...options }: ListOptions & { key?: boolean }) => {
      const ask = () => callJson<AuditWitnesses>('/audit/witnesses');
      if (!key) return showList(WITNESSES, async () => (await ask()).witnesses, options);
      const known = await ask();
      await show({ origin: known.origin, key: known.key }, () => known.key);
    });
  audit
    .command('export')
    .description('all records as JSON lines, with a signed end, for stowage-verify; or as CSV')
    .option('--csv', 'as CSV, which cannot be verified')
    .action(async ({ csv }: { csv?: boolean }) => {
      const response = await call('/audit/export');
      // One step waits for the other: the trail may be larger than the memory.
      if (!csv) return pipeline(response, process.stdout);
      const { stringify } = await import('csv-stringify');
      // A name must be no formula to whoever opens it in a spreadsheet.
      const table = stringify({ header: true, columns: COLUMNS, escape_formulas: true });
      return pipeline(response, recordsOf, table, process.stdout);
    });
  return audit;
}
