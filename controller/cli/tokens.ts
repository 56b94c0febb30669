import { Command, Option } from 'commander';
import type { TokenInfo } from '../auth/tokens.ts';
import { ROLES } from '../store/schema.ts';
import { call, callJson } from './client.ts';
import { printable, show, table, time } from './output.ts';

const DAY_MS = 24 * 3600_000;

export function tokenCommand(): Command {
  const token = new Command('token').description('API tokens');
  token
    .command('create <name>')
    .description('make a token; its secret is shown this once')
    .addOption(new Option('--role <role>', 'what it may do').choices(ROLES).makeOptionMandatory())
    .option('--days <count>', 'valid for so many days; default: until it is revoked')
    .action(async (name: string, options: { role: string; days?: string }) => {
      const expiresAt = options.days ? Date.now() + Number(options.days) * DAY_MS : undefined;
      show(
        await callJson<{ secret: string }>('/tokens', {
          method: 'POST',
          json: { name, role: options.role, expiresAt },
        }),
        ({ secret }) => secret,
      );
    });
  token.command('list').action(async () =>
    show(await callJson<TokenInfo[]>('/tokens'), (rows) =>
      table(
        ['NAME', 'ROLE', 'MADE', 'EXPIRES'],
        rows.map((row) => [
          row.name,
          row.role,
          time(row.created_at),
          row.expires_at ? time(row.expires_at) : 'never',
        ]),
      ),
    ),
  );
  token.command('revoke <name>').action(async (name: string) => {
    await call(`/tokens/${encodeURIComponent(name)}`, { method: 'DELETE' });
    show({ revoked: name }, () => `token ${printable(name)} is revoked`);
  });
  return token;
}
