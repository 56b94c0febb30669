import { Command, Option } from 'commander';
import type { Invitation, OpenInvitation, User } from '../../shared/protocol/api.ts';
import { ROLES } from '../../shared/protocol/rights.ts';
import { callJson, controllerOrigin, send } from './client.ts';
import { type Confirmation, confirm, yesOption } from './confirm.ts';
import { type Listing, type ListOptions, listOptions, showList, timeColumn } from './listing.ts';
import { printable, show, warn } from './output.ts';

const USERS: Listing<User> = {
  name: ({ name }) => name,
  columns: [
    { name: 'NAME', value: (user) => user.name },
    { name: 'ROLE', value: (user) => user.role },
    {
      name: 'SCOPES',
      value: (user) => user.scopes.join(' '),
      text: (user) => user.scopes.join(' ') || 'everywhere',
    },
    { name: 'SECOND FACTOR', value: (user) => (user.hasSecondFactor ? '*' : undefined) },
    timeColumn('SINCE', (user) => user.createdAt),
  ],
};

const invitedOf = ({ name }: OpenInvitation): string => name ?? '(the first administrator)';
const INVITATIONS: Listing<OpenInvitation> = {
  name: invitedOf,
  columns: [
    { name: 'NAME', value: ({ name }) => name, text: invitedOf },
    { name: 'FOR', value: ({ isReset }) => (isReset ? 'a new password' : 'a new user') },
    { name: 'ROLE', value: ({ role }) => role },
    {
      name: 'SCOPES',
      value: ({ scopes }) => scopes.join(' '),
      text: ({ scopes }) => scopes.join(' ') || 'everywhere',
    },
    timeColumn('UNTIL', ({ expiresAt }) => expiresAt),
  ],
};

const collect = (value: string, before: string[] | undefined): string[] => [...(before ?? []), value];
const userPath = (name: string): string => `/users/${encodeURIComponent(name)}`;

/** The token stands behind `#`: browsers send that to nobody, and no log has it. */
const linkOf = ({ token }: Invitation): string => `${controllerOrigin()}/welcome#${token}`;

function showLink(invitation: Invitation): Promise<void> {
  const link = linkOf(invitation);
  warn(invitation);
  return show({ link, expiresAt: invitation.expiresAt }, () => link, { isRemark: false });
}

interface Rights {
  role?: string;
  scope?: string[];
}

const roleOption = (): Option => new Option('--role <role>', 'what they may do').choices(ROLES);

export function userCommand(): Command {
  const user = new Command('user').description('people who sign in on the page');
  listOptions(user.command('list'))
    .description('the people who sign in')
    .action((options: ListOptions) => showList(USERS, () => callJson<User[]>('/users'), options));
  user
    .command('invite <name>')
    .description(
      'give out a link by which somebody sets their password, once; a link that was given out before ends',
    )
    .addOption(roleOption().makeOptionMandatory())
    .option(
      '--scope <place>',
      'where they may act: HOST, HOST/POOL, or @LABEL; may be given again; default: everywhere',
      collect,
    )
    .action(async (name: string, { role, scope = [] }: Rights) => {
      const json = { name, role, scopes: scope };
      await showLink(await callJson<Invitation>('/users', { method: 'POST', json }));
    });
  listOptions(user.command('invitations'))
    .description('the links that were given out and that nobody has used yet')
    .action((options: ListOptions) =>
      showList(INVITATIONS, () => callJson<OpenInvitation[]>('/open-invitations'), options),
    );
  user
    .command('withdraw <invitation>')
    .description('end the link that was given out for somebody, for a new user or a new password')
    .action(async (name: string) => {
      await send(`/open-invitations/${encodeURIComponent(name)}`, { method: 'DELETE' });
      await show({ withdrawn: name }, () => `the link for ${printable(name)} lets nobody in any more`);
    });
  user
    .command('reset <user>')
    .description(
      'give out a link by which a user sets a new password; the second factor goes with the old one',
    )
    .action(async (name: string) =>
      showLink(await callJson<Invitation>(`${userPath(name)}/reset`, { method: 'POST' })),
    );
  user
    .command('set <user>')
    .description('give a user another role or other scopes, from now on')
    .addOption(roleOption())
    .option('--scope <place>', 'HOST, HOST/POOL, or @LABEL; may be given again', collect)
    .option('--everywhere', 'no scopes')
    .action(async (name: string, { role, scope, everywhere }: Rights & { everywhere?: boolean }) => {
      const json = { role, scopes: everywhere ? [] : scope };
      const now = await callJson<User & { warnings?: string[] }>(userPath(name), { method: 'PATCH', json });
      warn(now);
      await show(
        now,
        () => `${printable(name)}: ${now.role}, ${now.scopes.map(printable).join(' ') || 'everywhere'}`,
      );
    });
  user
    .command('remove <user>')
    .description('take a user away, and end all that they have open')
    .addOption(yesOption())
    .action(async (name: string, options: Confirmation) => {
      await confirm(`Remove the user '${name}'?`, options);
      const admins = (await callJson<User[]>('/users')).filter(
        ({ role, scopes }) => role === 'admin' && scopes.length === 0,
      );
      await send(userPath(name), { method: 'DELETE' });
      if (admins.length === 1 && admins[0]!.name === name)
        warn({ warnings: ['no administrator signs in on the page any more; see: stowage user invite'] });
      await show({ removed: name }, () => `user ${printable(name)} is removed`);
    });
  return user;
}
