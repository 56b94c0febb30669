import { z } from 'zod';
import { actionSchema } from '../../shared/protocol/api.ts';
import { accountActions } from './account.ts';
import { type Action, defineAction } from './action.ts';
import { attributeActions } from './attributes.ts';
import { auditActions } from './audit.ts';
import { baseCopyActions } from './base-copies.ts';
import { directActions } from './direct.ts';
import { domainActions } from './domains.ts';
import { downloadActions } from './downloads.ts';
import { fleetActions } from './fleet.ts';
import { freeingActions } from './freeing.ts';
import { hostActions } from './hosts.ts';
import { imageActions } from './images.ts';
import { jobActions } from './jobs.ts';
import { mappingActions } from './mapping.ts';
import { poolActions } from './pools.ts';
import { secretActions } from './secrets.ts';
import { snapshotActions } from './snapshots.ts';
import { streamActions } from './streams.ts';
import { tokenActions } from './tokens.ts';
import { trashActions } from './trash.ts';
import { uploadActions } from './uploads.ts';
import { userActions } from './users.ts';
import { volumeJobActions } from './volume-jobs.ts';
import { volumeActions } from './volumes.ts';

/** What there is to be done, for those who offer it. */
const listActions = defineAction({
  name: 'action.list',
  summary: 'What can be done, and who may do it.',
  role: 'viewer',
  input: z.object({}),
  answer: z.array(actionSchema),
  places: () => [],
  run: async () =>
    [...ACTIONS.values()].map(({ name, summary, role, touch }) => ({ name, summary, role, touch })),
});

/** Everything that can be done, by name. */
export const ACTIONS: ReadonlyMap<string, Action> = byName([
  listActions,
  ...fleetActions,
  ...hostActions,
  ...poolActions,
  ...volumeActions,
  ...attributeActions,
  ...imageActions,
  ...baseCopyActions,
  ...snapshotActions,
  ...mappingActions,
  ...trashActions,
  ...freeingActions,
  ...volumeJobActions,
  ...downloadActions,
  ...uploadActions,
  ...streamActions,
  ...directActions,
  ...domainActions,
  ...jobActions,
  ...auditActions,
  ...tokenActions,
  ...userActions,
  ...accountActions,
  ...secretActions,
]);

function byName(actions: readonly Action[]): Map<string, Action> {
  const found = new Map<string, Action>();
  for (const action of actions) {
    if (found.has(action.name)) throw new Error(`there are two actions '${action.name}'`);
    found.set(action.name, action);
  }
  return found;
}
