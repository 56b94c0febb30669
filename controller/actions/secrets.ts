import { z } from 'zod';
import { scopeSchema, secretKindSchema, secretSchema } from '../../shared/protocol/api.ts';
import { defineAction } from './action.ts';

const list = defineAction({
  name: 'secret.list',
  summary: 'All secrets of storage, without their values.',
  role: 'admin',
  input: z.object({}),
  answer: z.array(secretSchema),
  places: () => [{}],
  run: ({ secrets }) => secrets.list(),
});

const define = defineAction({
  name: 'secret.define',
  summary: 'Keeps a password or a key of storage, sealed, for the hosts and pools that may have it.',
  role: 'admin',
  audited: true,
  input: z.object({
    kind: secretKindSchema,
    /** By which documents name it, such as in `<secret usage='…'/>`; of a volume its path, or any text. */
    usage: z.string().min(1).max(1024),
    /** A new one when absent; for documents that name a secret by its UUID. */
    id: z.guid().toLowerCase().optional(),
    description: z.string().max(1024).optional(),
    scopes: z.array(scopeSchema).min(1, 'for which hosts is it? HOST, HOST/POOL or @LABEL').max(100),
    value: z
      .string()
      .min(1)
      .refine((value) => Buffer.byteLength(value) <= 4096, 'has more than 4096 bytes'),
    /** Give one of volumes another value, although volumes may be encrypted with the one that it has. */
    replace: z.boolean().default(false),
  }),
  answer: secretSchema,
  places: () => [{}],
  record: ({ kind, usage, scopes }) => ({
    target: `secret ${kind} ${usage}`,
    detail: `for ${scopes.join(', ')}`,
  }),
  run: ({ secrets }, { value, ...secret }) => secrets.define(secret, value),
});

const remove = defineAction({
  name: 'secret.delete',
  summary:
    'Forgets a secret; pools that run with it go on until they are stopped, volumes encrypted with it cannot be opened.',
  role: 'admin',
  audited: true,
  input: z.object({ secret: z.guid().toLowerCase() }),
  answer: 'nothing',
  places: () => [{}],
  record: ({ secret }) => ({ target: `secret ${secret}` }),
  run: ({ secrets }, { secret }) => secrets.remove(secret),
});

export const secretActions = [list, define, remove];
