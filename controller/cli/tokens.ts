import { Command, Option } from 'commander';
import type { Token } from '../../shared/protocol/api.ts';
import { ROLES } from '../../shared/protocol/rights.ts';
import { callJson, send } from './client.ts';
import { type Confirmation, confirm, yesOption } from './confirm.ts';
import { type Listing, type ListOptions, listOptions, showList, timeColumn } from './listing.ts';
import { count } from './numbers.ts';
import { printable, show, warn } from './output.ts';

const DAY_MS = 24 * 3600_000;

const TOKENS: Listing<Token> = {
  name: ({ name }) => name,
  columns: [
    { name: 'NAME', value: (token) => token.name },
    { name: 'ROLE', value: (token) => token.role },
    {
      name: 'SCOPES',
      value: (token) => token.scopes.join(' '),
      text: (token) => token.scopes.join(' ') || 'everywhere',
    },
    timeColumn('MADE', (token) => token.createdAt),
    timeColumn('EXPIRES', (token) => token.expiresAt),
    timeColumn('USED', (token) => token.usedAt),
  ],
};

const collect = (value: string, before: string[]): string[] => [...before, value];

export function tokenCommand(): Command {
  const token = new Command('token').description('API tokens');
  token
    .command('create <name>')
    .description('make a token; its secret is shown this once')
    .addOption(new Option('--role <role>', 'what it may do').choices(ROLES).makeOptionMandatory())
    .option(
      '--scope <place>',
      'where it may act: HOST, HOST/POOL, or @LABEL; may be given again; default: everywhere',
      collect,
      [],
    )
    .option('--days <count>', 'valid for so many days; default: until it is revoked', count)
    .action(async (name: string, options: { role: string; scope: string[]; days?: number }) => {
      const expiresAt = options.days ? Date.now() + options.days * DAY_MS : undefined;
      const made = await callJson<{ secret: string; warnings?: string[] }>('/tokens', {
        method: 'POST',
        json: { name, role: options.role, scopes: options.scope, expiresAt },
      });
      warn(made);
      await show(made, ({ secret }) => secret, { isRemark: false });
    });
  listOptions(token.command('list'))
    .description('all tokens, without their secrets')
    .action((options: ListOptions) => showList(TOKENS, () => callJson<Token[]>('/tokens'), options));
  token
    .command('revoke <token>')
    .description('end a token: whoever uses it is let in no more, and what it reads now ends')
    .addOption(yesOption())
    .action(async (name: string, options: Confirmation) => {
      await confirm(`Revoke the token '${name}'?`, options);
      await send(`/tokens/${encodeURIComponent(name)}`, { method: 'DELETE' });
      await show({ revoked: name }, () => `token ${printable(name)} is revoked`);
    });
  return token;
}
