import type { Place } from '../../../shared/protocol/rights.ts';
import { WHOLE } from '../api/rights.ts';

interface Section {
  to: string;
  name: string;
  /** Whoever may do this somewhere, or in the place, sees it. */
  action: string;
  place?: Place;
}

const SECTIONS: readonly Section[] = [
  { to: '/', name: 'Overview', action: 'fleet.show' },
  { to: '/volumes', name: 'Volumes', action: 'volume.list' },
  { to: '/pools', name: 'Pools', action: 'pool.list' },
  { to: '/hosts', name: 'Hosts', action: 'host.list' },
  { to: '/jobs', name: 'Jobs', action: 'job.list' },
  { to: '/audit', name: 'Audit', action: 'audit.list' },
  { to: '/secrets', name: 'Secrets', action: 'secret.list', place: WHOLE },
  { to: '/tokens', name: 'Tokens', action: 'token.list', place: WHOLE },
  { to: '/people', name: 'People', action: 'user.list', place: WHOLE },
];

/** The parts of the page that somebody may see. */
export const sectionsFor = (may: (action: string, place?: Place) => boolean): readonly Section[] =>
  SECTIONS.filter(({ action, place }) => may(action, place));
