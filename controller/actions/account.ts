import { z } from 'zod';
import { accountSchema, sessionSchema } from '../../shared/protocol/api.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { askedSchema, registrationSchema } from '../auth/passkeys.ts';
import type { Principal } from '../auth/principal.ts';
import { type Call, defineAction } from './action.ts';

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
  answer: accountSchema,
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

/** Passkeys are made by browsers, which say from where. */
function originOf({ origin }: Call): string {
  if (origin !== undefined) return origin;
  throw new StowageError('not-supported', 'passkeys are made in a browser');
}

/** Enough of an id to know it again. */
const shortId = (id: string): string => id.slice(0, 16);

const newPasskey = defineAction({
  ...own,
  name: 'account.new-passkey',
  summary: 'What a browser is asked to make a passkey (WebAuthn).',
  input: z.object({}),
  answer: askedSchema,
  run: ({ account }, _input, call) => account.newPasskey(call.principal, originOf(call)),
});

const addPasskey = defineAction({
  ...changed,
  name: 'account.add-passkey',
  summary: 'A passkey that lets you in; your password alone does so no more. Ends your other sessions.',
  input: z.object({
    password,
    /** As you call it. */
    name: z.string().trim().min(1).max(60),
    state: z.string().max(1024),
    response: registrationSchema,
  }),
  record: ({ name, response }) => ({
    target: 'account',
    detail: `passkey '${name}', ${shortId(response.id)}`,
  }),
  run: ({ account }, given, call) => account.addPasskey(call.principal, given, originOf(call)),
});

const removePasskey = defineAction({
  ...changed,
  name: 'account.remove-passkey',
  summary: 'Takes a passkey away, and ends your other sessions.',
  input: z.object({ password, passkey: z.string().max(1000) }),
  record: ({ passkey }) => ({ target: 'account', detail: `passkey ${shortId(passkey)}` }),
  run: ({ account }, given, { principal }) =>
    account.removePasskey(principal, { password: given.password, id: given.passkey }),
});

const makeRecoveryCodes = defineAction({
  ...changed,
  name: 'account.new-recovery-codes',
  summary:
    'Codes that let you in beside your password without the second factor, each once; earlier ones do so no more.',
  input: z.object({ password }),
  answer: z.object({ codes: z.array(z.string()) }),
  run: async ({ account }, given, { principal }) => ({
    codes: await account.newRecoveryCodes(principal, given.password),
  }),
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
  newPasskey,
  addPasskey,
  removePasskey,
  makeRecoveryCodes,
  listSessions,
  endSession,
];
