import type { Traits } from '../backends/backend.ts';

/** What every pool can do in which volumes are made, that hold images of any format. */
export const MAKING_FEATURES: Traits['features'] = {
  create: ['current'],
  delete: ['current'],
  trash: ['current'],
  rename: ['current', 'base'],
  resize: ['current'],
  shrink: ['current'],
  clone: ['current', 'base'],
  wipe: ['current'],
  snapshot: ['current'],
  transfer: ['current', 'snapshot'],
  repair: ['current'],
};

/** What those can do beside where volumes share what they begin with. */
export const BASE_FEATURES: Traits['features'] = {
  base: ['current'],
  link: ['base'],
};

/** Where snapshots are the storage's own, and not in the bytes of a volume: they can be given another id, and be begun with. */
export const STORED_SNAPSHOTS: Traits['features'] = {
  rename: ['current', 'base', 'snapshot'],
  link: ['base', 'snapshot'],
};
