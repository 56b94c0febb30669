import { Command } from 'commander';
import type { AuditRecord, AuditVerdict } from '../../shared/protocol/api.ts';
import { call, callJson } from './client.ts';
import { type Listing, type ListOptions, listOptions, showList, timeColumn } from './listing.ts';
import { count } from './numbers.ts';
import { show } from './output.ts';
import { timeOf } from './times.ts';

interface AuditOptions extends ListOptions {
  limit: number;
  since?: string;
  by?: string;
  host?: string;
  on?: string;
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

export function auditCommand(): Command {
  const audit = new Command('audit').description('who did what');
  listOptions(audit.command('list'))
    .description('the newest records')
    .option('--limit <count>', 'how many', count, 50)
    .option('--since <when>', 'not before: 90m, 2h, 7d ago, or a date such as 2026-11-24 or 2026-11-24T16:00')
    .option('--by <actor>', 'only what one did, such as the name of a token')
    .option('--host <host>', 'only what was done to a host, its pools and volumes')
    .option('--on <target>', 'only what was done to exactly this, such as host/pool/vol')
    .action(({ limit, since, by, host, on, ...options }: AuditOptions) => {
      const query = new URLSearchParams({ limit: String(limit) });
      if (since !== undefined) query.set('since', String(timeOf(since)));
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
      await show(verdict, () =>
        verdict.ok
          ? `the trail is whole: ${verdict.records} records, signed up to ${verdict.head?.hash.slice(0, 16)}`
          : `THE TRAIL WAS TAMPERED WITH at record ${verdict.badSeq}: ${verdict.reason}`,
      );
      if (!verdict.ok) process.exitCode = 1;
    });
  audit
    .command('export')
    .description('all records as JSON lines')
    .action(async () => {
      const response = await call('/audit/export');
      for await (const piece of response) process.stdout.write(piece as Buffer);
    });
  return audit;
}
