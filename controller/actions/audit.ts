import { Readable } from 'node:stream';
import { z } from 'zod';
import { auditRecordSchema, auditVerdictSchema, auditWitnessesSchema } from '../../shared/protocol/api.ts';
import { nameSchema } from '../../shared/util/names.ts';
import { defineAction } from './action.ts';

const list = defineAction({
  name: 'audit.list',
  summary: 'Records of the audit trail: the newest, or those after one. That they were read is on record.',
  role: 'viewer',
  audited: true,
  input: z.object({
    limit: z.number().int().min(1).max(1000).default(50),
    /** The number of a record. */
    after: z.number().int().nonnegative().optional(),
    /** Ms since the epoch. */
    since: z.number().int().optional(),
    until: z.number().int().optional(),
    /** Such as `volume.delete`; `volume.` are all that begin so. */
    action: z.string().max(100).optional(),
    outcome: auditRecordSchema.shape.outcome.optional(),
    actor: z.string().max(200).optional(),
    /** What was done to a host, its pools and volumes. */
    host: nameSchema.optional(),
    /** What was done to exactly this, such as `host/pool/volume`; only of it. */
    target: z.string().max(800).optional(),
  }),
  answer: z.array(auditRecordSchema),
  places: ({ host }) => (host === undefined ? [] : [{ host }]),
  record: ({ limit, ...filter }) => ({
    target: 'audit',
    detail: Object.entries({ ...filter, limit })
      .flatMap(([name, value]) => (value === undefined ? [] : [`${name} ${value}`]))
      .join(', '),
  }),
  run: ({ audit }, { limit, ...filter }, { principal }) =>
    audit.list(limit, { ...filter, scopes: principal.scopes }),
});

const verify = defineAction({
  name: 'audit.verify',
  summary: 'Checks every record and signature of the audit trail.',
  role: 'viewer',
  input: z.object({}),
  answer: auditVerdictSchema,
  places: () => [],
  run: ({ upkeep }) => upkeep.verify(),
});

const witnesses = defineAction({
  name: 'audit.witnesses',
  summary: 'Who sees the audit trail grow, from outside, and up to where; and the key by which they know it.',
  role: 'viewer',
  input: z.object({}),
  answer: auditWitnessesSchema,
  places: () => [],
  run: ({ upkeep }) => upkeep.witnesses(),
});

const exportAll = defineAction({
  name: 'audit.export',
  summary: 'All records of the audit trail as JSON lines, and the signed checkpoint of the last one.',
  role: 'admin',
  audited: true,
  input: z.object({}),
  answer: 'bytes',
  places: () => [{}],
  record: () => ({ target: 'audit' }),
  async run({ audit }) {
    async function* lines(): AsyncGenerator<string> {
      for await (const line of audit.export()) yield `${line}\n`;
    }
    return { body: Readable.from(lines()), contentType: 'application/x-ndjson' };
  },
});

export const auditActions = [list, verify, witnesses, exportAll];
