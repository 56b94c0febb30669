import { z } from 'zod';
import {
  invitationSchema,
  openInvitationSchema,
  roleSchema,
  scopeSchema,
  userSchema,
  warningsField,
} from '../../shared/protocol/api.ts';
import { nameSchema, principalNameSchema } from '../../shared/util/names.ts';
import { defineAction } from './action.ts';
import { scopeWarnings } from './scope-warnings.ts';

const address = z.object({ user: nameSchema });
const rights = {
  role: roleSchema,
  /** Where they may act: `HOST`, `HOST/POOL` or `@LABEL`; everywhere without any. */
  scopes: z.array(scopeSchema).max(100).default([]),
};

const wordsOf = ({ role, scopes }: { role?: string; scopes?: readonly string[] }): string =>
  [role ?? '', scopes === undefined ? '' : scopes.length > 0 ? `in ${scopes.join(', ')}` : 'everywhere']
    .filter((part) => part !== '')
    .join(', ');

const list = defineAction({
  name: 'user.list',
  summary: 'The people who sign in.',
  role: 'admin',
  input: z.object({}),
  answer: z.array(userSchema),
  places: () => [{}],
  run: ({ users }) => users.list(),
});

const invite = defineAction({
  name: 'user.invite',
  summary:
    'Gives out a one-time link by which somebody becomes a user, and sets their password. It ends the link before.',
  role: 'admin',
  audited: true,
  input: z.object({ name: principalNameSchema, ...rights }),
  answer: invitationSchema,
  places: () => [{}],
  record: ({ name, ...given }) => ({ target: `user ${name}`, detail: wordsOf(given) }),
  run: async (services, { name, ...given }) => ({
    ...(await services.users.invite(name, given)),
    warnings: await scopeWarnings(services, given.scopes),
  }),
});

const invitations = defineAction({
  name: 'user.list-invitations',
  summary: 'The links that were given out and that nobody has used yet, without their secrets.',
  role: 'admin',
  input: z.object({}),
  answer: z.array(openInvitationSchema),
  places: () => [{}],
  run: ({ users }) => users.invitations(),
});

const withdraw = defineAction({
  name: 'user.withdraw',
  summary: 'Ends the link that was given out for somebody: it lets nobody in any more.',
  role: 'admin',
  audited: true,
  input: address,
  answer: 'nothing',
  places: () => [{}],
  record: ({ user }) => ({ target: `user ${user}` }),
  run: ({ users }, { user }) => users.withdraw(user),
});

const reset = defineAction({
  name: 'user.reset',
  summary:
    'Gives out a one-time link by which a user sets a new password; the second factor goes with the old one when it is used.',
  role: 'admin',
  audited: true,
  input: address,
  answer: invitationSchema,
  places: () => [{}],
  plan: ({ users }, { user }) => users.find(user),
  record: ({ user }) => ({ target: `user ${user}` }),
  run: ({ users }, { user }) => users.reset(user),
});

const set = defineAction({
  name: 'user.set',
  summary: 'Gives a user another role or other scopes, from now on.',
  role: 'admin',
  audited: true,
  input: address.extend({ role: roleSchema.optional(), scopes: z.array(scopeSchema).max(100).optional() }),
  answer: userSchema.extend(warningsField),
  places: () => [{}],
  plan: ({ users }, { user }) => users.find(user),
  record: ({ user, ...given }) => ({ target: `user ${user}`, detail: wordsOf(given) }),
  run: async (services, { user, role, scopes }) => ({
    ...(await services.users.set(user, { ...(role && { role }), ...(scopes && { scopes }) })),
    warnings: await scopeWarnings(services, scopes ?? []),
  }),
});

const remove = defineAction({
  name: 'user.remove',
  summary: 'Takes a user away, and ends all that they have open.',
  role: 'admin',
  audited: true,
  input: address,
  answer: 'nothing',
  places: () => [{}],
  plan: ({ users }, { user }) => users.find(user),
  record: ({ user }) => ({ target: `user ${user}` }),
  run: ({ users }, { user }) => users.remove(user),
});

export const userActions = [list, invite, invitations, withdraw, reset, set, remove];
