import { z } from 'zod';
import { roleSchema, scopeSchema, tokenSchema, warningsField } from '../../shared/protocol/api.ts';
import { nameSchema, principalNameSchema } from '../../shared/util/names.ts';
import { defineAction } from './action.ts';
import { scopeWarnings } from './scope-warnings.ts';

const list = defineAction({
  name: 'token.list',
  summary: 'All tokens, without their secrets.',
  role: 'admin',
  input: z.object({}),
  answer: z.array(tokenSchema),
  places: () => [{}],
  run: ({ tokens }) => tokens.list(),
});

const create = defineAction({
  name: 'token.create',
  summary: 'Makes a token; its secret is shown this once.',
  role: 'admin',
  audited: true,
  input: z.object({
    name: principalNameSchema,
    role: roleSchema,
    /** Where it may act, `HOST` or `HOST/POOL`; everywhere without any. */
    scopes: z.array(scopeSchema).max(100).default([]),
    /** Ms since the epoch. */
    expiresAt: z.number().int().positive().optional(),
  }),
  answer: z.object({ token: tokenSchema, secret: z.string(), ...warningsField }),
  places: () => [{}],
  record: ({ name, role, scopes, expiresAt }) => ({
    target: `token ${name}`,
    detail: [
      role,
      scopes.length > 0 ? `in ${scopes.join(', ')}` : '',
      expiresAt === undefined ? '' : `until ${new Date(expiresAt).toISOString()}`,
    ]
      .filter((part) => part !== '')
      .join(', '),
  }),
  run: async (services, asked) => ({
    ...(await services.tokens.create(asked)),
    warnings: await scopeWarnings(services, asked.scopes),
  }),
});

const revoke = defineAction({
  name: 'token.revoke',
  summary: 'Ends a token: whoever uses it is let in no more, and what it reads now ends.',
  role: 'admin',
  audited: true,
  input: z.object({ token: nameSchema }),
  answer: 'nothing',
  places: () => [{}],
  run: ({ tokens }, { token }) => tokens.revoke(token),
});

export const tokenActions = [list, create, revoke];
