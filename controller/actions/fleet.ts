import { Readable } from 'node:stream';
import { z } from 'zod';
import { attentionItemSchema, fleetTotalsSchema, spacePointSchema } from '../../shared/protocol/api.ts';
import { VERSION } from '../../shared/version.ts';
import { defineAction } from './action.ts';

const show = defineAction({
  name: 'fleet.show',
  summary: 'The fleet in numbers, as far as the caller may see it, and who the caller is.',
  role: 'viewer',
  input: z.object({}),
  answer: fleetTotalsSchema,
  places: () => [],
  async run({ fleet, inventory, jobs }, _input, { principal }) {
    const { name, role, scopes } = principal;
    const [hosts, pools, unended] = await Promise.all([
      fleet.totals(scopes),
      inventory.poolTotals(scopes),
      jobs.totals(scopes),
    ]);
    return { version: VERSION, caller: { name, role, scopes: [...scopes] }, hosts, pools, jobs: unended };
  },
});

/** From when on a history is told, ms since the epoch; all of it reaches back for years. */
export const historyFields = { since: z.number().int().nonnegative() };

const history = defineAction({
  name: 'fleet.history',
  summary: 'How the space of all pools together was used. A point holds until the next one.',
  role: 'viewer',
  input: z.object(historyFields),
  answer: z.array(spacePointSchema),
  // It tells of all pools.
  places: () => [{}],
  run: ({ spaceHistory }, { since }) => spaceHistory.since(since),
});

const attention = defineAction({
  name: 'fleet.attention',
  summary:
    'What wants somebody to look: hosts that do not answer, pools that are down or nearly full, failed and waiting jobs.',
  role: 'viewer',
  input: z.object({}),
  answer: z.array(attentionItemSchema),
  places: () => [],
  run: (services, _input, { principal }) => services.attention.items(principal.scopes),
});

const metrics = defineAction({
  name: 'metrics.read',
  summary: 'Numbers of the fleet and of the controller, in the text that Prometheus reads.',
  role: 'viewer',
  input: z.object({}),
  answer: 'bytes',
  places: () => [],
  async run({ metrics }, _input, { principal }) {
    const text = await metrics.text(principal.scopes);
    return { body: Readable.from([text]), contentType: metrics.contentType };
  },
});

export const fleetActions = [show, history, attention, metrics];
