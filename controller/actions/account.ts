import { z } from 'zod';
import { sessionSchema, userSchema } from '../../shared/protocol/api.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { Principal } from '../auth/principal.ts';
import { defineAction } from './action.ts';

const password = z.string().min(1).max(256);
const own = { role: 'viewer', places: () => [] } as const;
/** As {@link own}, of what is on record; the record names whoever does it anyway. */
const changed = { ...own, audited: true, answer: 'nothing', record: () => ({ target: 'account' }) } as const;

const userOf = ({ user, name }: Principal): string => {
  if (user !== undefined) return user;
  throw new StowageError('forbidden', `'${name}' is a token, and no user who signs in`);
};

const show = defineAction({
  ...own,
  name: 'account.show',
  summary: 'Your own account.',
  input: z.object({}),
  answer: userSchema.omit({ role: true, scopes: true }),
  run: ({ account }, _input, { principal }) => account.show(principal),
});

const setPassword = defineAction({
  ...changed,
  name: 'account.set-password',
  summary: 'Sets your password, and ends your other sessions.',
  input: z.object({ before: password, password }),
  run: ({ account }, { before, password: now }, { principal }) => account.setPassword(principal, before, now),
});

const newSecondFactor = defineAction({
  ...own,
  name: 'account.new-second-factor',
  summary: 'A new secret for an app that shows codes; it counts once it was confirmed by a code.',
  input: z.object({}),
  answer: z.object({ secret: z.string(), uri: z.string() }),
  run: ({ account }, _input, { principal }) => account.newSecondFactor(principal),
});

const setSecondFactor = defineAction({
  ...changed,
  name: 'account.set-second-factor',
  summary: 'Has a code asked for whenever you sign in, and ends your other sessions.',
  input: z.object({
    password,
    secret: z.string().regex(/^[A-Z2-7]{32}$/, 'secret: is none that was given out here'),
    code: z.string().max(20),
  }),
  run: ({ account }, given, { principal }) => account.setSecondFactor(principal, given),
});

const removeSecondFactor = defineAction({
  ...changed,
  name: 'account.remove-second-factor',
  summary: 'Has only your password asked for.',
  input: z.object({ password }),
  run: ({ account }, given, { principal }) => account.removeSecondFactor(principal, given.password),
});

const listSessions = defineAction({
  ...own,
  name: 'account.list-sessions',
  summary: 'Where you are signed in.',
  input: z.object({}),
  answer: z.array(sessionSchema),
  run: ({ sessions }, _input, { principal }) => sessions.list(userOf(principal), principal.id),
});

const endSession = defineAction({
  ...changed,
  name: 'account.end-session',
  summary: 'Ends one of your sessions.',
  input: z.object({ session: z.uuid() }),
  run: ({ sessions }, { session }, { principal }) => sessions.end(userOf(principal), session),
});

export const accountActions = [
  show,
  setPassword,
  newSecondFactor,
  setSecondFactor,
  removeSecondFactor,
  listSessions,
  endSession,
];
