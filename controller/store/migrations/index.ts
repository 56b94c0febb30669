import type { Migration } from 'kysely/migration';
import { first } from './0001-first.ts';
import { poolPermissions } from './0002-pool-permissions.ts';
import { wholeDocuments } from './0003-whole-documents.ts';
import { placesAndRevisions } from './0004-places-and-revisions.ts';
import { claimsAndEvents } from './0005-claims-and-events.ts';
import { domainsAndSearch } from './0006-domains-and-search.ts';
import { poolUsage } from './0007-pool-usage.ts';
import { secrets } from './0008-secrets.ts';
import { linkedClones } from './0009-linked-clones.ts';
import { storages } from './0010-storages.ts';
import { users } from './0011-users.ts';
import { ordersOfVolumes } from './0012-orders-of-volumes.ts';
import { spaceHistory } from './0013-space-history.ts';
import { attention } from './0014-attention.ts';
import { forwarding } from './0015-forwarding.ts';
import { archivesAndWitnesses } from './0016-archives-and-witnesses.ts';
import { passkeys } from './0017-passkeys.ts';
import { tracesOfJobs } from './0018-traces-of-jobs.ts';
import { leftovers } from './0019-leftovers.ts';
import { secretsOfVolumes } from './0020-secrets-of-volumes.ts';
import { dismissedJobs } from './0021-dismissed-jobs.ts';
import { copies } from './0022-copies.ts';

/**
 * In order; a name once released never changes. A migration runs on stores of any age: it knows the tables only as they were when it
 * was written.
 */
export const MIGRATIONS: Record<string, Migration> = {
  '0001-first': first,
  '0002-pool-permissions': poolPermissions,
  '0003-whole-documents': wholeDocuments,
  '0004-places-and-revisions': placesAndRevisions,
  '0005-claims-and-events': claimsAndEvents,
  '0006-domains-and-search': domainsAndSearch,
  '0007-pool-usage': poolUsage,
  '0008-secrets': secrets,
  '0009-linked-clones': linkedClones,
  '0010-storages': storages,
  '0011-users': users,
  '0012-orders-of-volumes': ordersOfVolumes,
  '0013-space-history': spaceHistory,
  '0014-attention': attention,
  '0015-forwarding': forwarding,
  '0016-archives-and-witnesses': archivesAndWitnesses,
  '0017-passkeys': passkeys,
  '0018-traces-of-jobs': tracesOfJobs,
  '0019-leftovers': leftovers,
  '0020-secrets-of-volumes': secretsOfVolumes,
  '0021-dismissed-jobs': dismissedJobs,
  '0022-copies': copies,
};
