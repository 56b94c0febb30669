import { z } from 'zod';
import { scopeSchema, secretKindSchema, secretSchema } from '../../shared/protocol/api.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { defineAction } from './action.ts';

/** Volumes that a refusal names. */
const MOST_NAMED = 5;

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
    'Forgets a secret; pools that run with it go on until they are stopped. One that volumes are encrypted with stays, unless told otherwise.',
  role: 'admin',
  audited: true,
  input: z.object({
    secret: z.guid('must be a UUID, as the list of secrets tells it').toLowerCase(),
    /** Although volumes are encrypted with it. */
    allowUsed: z.boolean().default(false),
  }),
  answer: 'nothing',
  places: () => [{}],
  async plan({ secrets }, { secret, allowUsed }) {
    const volumes = await secrets.neededBy(secret, MOST_NAMED + 1);
    if (volumes.length === 0) return '';
    const names = volumes.slice(0, MOST_NAMED).map(({ host, pool, name }) => `${host}/${pool}/${name}`);
    const more = volumes.length > MOST_NAMED ? ' and others' : '';
    const words = `${names.join(', ')}${more} could not be opened without it`;
    if (!allowUsed) throw new StowageError('secret-in-use', words);
    return words;
  },
  record: ({ secret }, words) => ({ target: `secret ${secret}`, detail: words || undefined }),
  run: ({ secrets }, { secret }) => secrets.remove(secret),
});

export const secretActions = [list, define, remove];
