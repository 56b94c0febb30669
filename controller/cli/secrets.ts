import { isUtf8 } from 'node:buffer';
import { buffer } from 'node:stream/consumers';
import { Command, Option } from 'commander';
import type { Secret } from '../../shared/protocol/api.ts';
import { SECRET_KINDS } from '../../shared/protocol/lists.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { callJson, send } from './client.ts';
import { type Confirmation, confirm, yesOption } from './confirm.ts';
import { type Listing, type ListOptions, listOptions, showList, timeColumn } from './listing.ts';
import { printable, show } from './output.ts';

const SECRETS: Listing<Secret> = {
  name: ({ id }) => id,
  columns: [
    { name: 'ID', value: ({ id }) => id },
    { name: 'KIND', value: ({ kind }) => kind },
    { name: 'USAGE', value: ({ usage }) => usage },
    { name: 'FOR', value: ({ scopes }) => scopes.join(' ') },
    timeColumn('CHANGED', ({ changedAt }) => changedAt),
    { name: 'DESCRIPTION', value: ({ description }) => description },
  ],
};

const collect = (value: string, before: string[]): string[] => [...before, value];

/** From standard input: what is typed as an argument others can see. */
async function readValue(): Promise<string> {
  if (process.stdin.isTTY)
    throw new StowageError('invalid-argument', 'the value comes by standard input, such as: … < FILE');
  const bytes = await buffer(process.stdin);
  if (!isUtf8(bytes))
    throw new StowageError(
      'invalid-argument',
      'the value is no text in UTF-8: what is no text can be given as base64',
    );
  const value = bytes.toString('utf8').replace(/\r?\n$/, '');
  if (value === '') throw new StowageError('invalid-argument', 'standard input is empty');
  return value;
}

export function secretCommand(): Command {
  const secret = new Command('secret').description('passwords and keys of storage');
  secret
    .command('define <kind> <usage>')
    .description(`keep the value on standard input, sealed; KIND is one of ${SECRET_KINDS.join(', ')}`)
    .requiredOption(
      '--for <place>',
      'who may have it: HOST, HOST/POOL or @LABEL; may be given again',
      collect,
      [],
    )
    .addOption(new Option('--id <uuid>', 'for documents that name it by its UUID'))
    .option('--description <text>', 'what it is for')
    .option(
      '--replace',
      'give one of volumes another value: what is encrypted with the old one is lost with it',
    )
    .action(
      async (
        kind: string,
        usage: string,
        options: { for: string[]; id?: string; description?: string; replace?: boolean },
      ) => {
        const { id, description, replace } = options;
        const json = { kind, usage, id, description, replace, scopes: options.for, value: await readValue() };
        const made = await callJson<Secret>('/secrets', { method: 'POST', json });
        await show(made, () => `secret ${made.id} is kept for ${printable(made.scopes.join(', '))}`);
      },
    );
  listOptions(secret.command('list'))
    .description('all secrets, without their values')
    .action((options: ListOptions) => showList(SECRETS, () => callJson<Secret[]>('/secrets'), options));
  secret
    .command('delete <id>')
    .description('forget a secret; pools that run with it go on until they are stopped')
    .option('--allow-used', 'although volumes are encrypted with it, which nobody can open then')
    .addOption(yesOption())
    .action(async (id: string, options: Confirmation & { allowUsed?: boolean }) => {
      await confirm(`Forget the secret ${id}?`, options);
      const query = options.allowUsed ? '?allowUsed=true' : '';
      await send(`/secrets/${encodeURIComponent(id)}${query}`, { method: 'DELETE' });
      await show({ deleted: id }, () => `secret ${printable(id)} is forgotten`);
    });
  return secret;
}
