import type { Traits } from '../backends/backend.ts';

/** What every pool can do in which volumes are made, that hold images of any format. */
export const MAKING_FEATURES: Traits['features'] = {
  create: ['current'],
  delete: ['current'],
  trash: ['current'],
  resize: ['current'],
  shrink: ['current'],
  clone: ['current'],
  wipe: ['current'],
  snapshot: ['current'],
  transfer: ['current'],
  repair: ['current'],
};
