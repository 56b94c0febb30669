import { z } from 'zod';
import { fleetTotalsSchema } from '../../shared/protocol/api.ts';
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

export const fleetActions = [show];
