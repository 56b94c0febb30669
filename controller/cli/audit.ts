import { Command } from 'commander';
import type { Verdict } from '../audit/trail.ts';
import type { AuditRow } from '../store/schema.ts';
import { call, callJson } from './client.ts';
import { show, table, time } from './output.ts';

export function auditCommand(): Command {
  const audit = new Command('audit').description('who did what');
  audit
    .command('list')
    .option('--limit <count>', 'how many of the newest', '50')
    .action(async ({ limit }: { limit: string }) =>
      show(await callJson<AuditRow[]>(`/audit?limit=${encodeURIComponent(limit)}`), (rows) =>
        table(
          ['SEQ', 'TIME', 'WHO', 'FROM', 'ACTION', 'ON', 'OUTCOME', 'DETAIL'],
          rows.map((row) => [
            row.seq,
            time(row.at),
            row.actor,
            row.source,
            row.action,
            row.target,
            row.outcome,
            row.detail,
          ]),
        ),
      ),
    );
  audit
    .command('verify')
    .description('check every record and signature; exit status 1 when something was tampered with')
    .action(async () => {
      const verdict = await callJson<Verdict>('/audit/verify');
      show(verdict, () =>
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
      for await (const piece of response.body as unknown as AsyncIterable<Uint8Array>)
        process.stdout.write(piece);
    });
  return audit;
}
