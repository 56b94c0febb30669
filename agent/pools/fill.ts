import { DEFAULT_LIMITS } from '../../shared/conf/pool-limits.ts';
import type { PoolFill, PoolLimits } from '../../shared/conf/pool-usage.ts';
import type { Space } from '../backends/backend.ts';

/** A pool must fall so far below a limit before it counts as below it: at a limit it would be told again and again. */
const SLACK_PERCENT = 2;

/** What is in use, in percent: of the data as df(1) counts it, or of the metadata where that is fuller. */
export function usedPercent({ allocationBytes, availableBytes, metadata }: Space): number {
  const all = allocationBytes + availableBytes;
  const ofData = all > 0 ? allocationBytes / all : 0;
  const ofMetadata =
    metadata && metadata.capacityBytes > 0 ? metadata.allocationBytes / metadata.capacityBytes : 0;
  return 100 * Math.max(ofData, ofMetadata);
}

/** How full a pool counts as, that was `before` so far. */
export function fillOf(
  space: Space,
  limits: PoolLimits = DEFAULT_LIMITS,
  before: PoolFill = 'normal',
): PoolFill {
  const percent = usedPercent(space);
  const isAbove = (limit: number, held: boolean): boolean => percent >= limit - (held ? SLACK_PERCENT : 0);
  if (isAbove(limits.criticalPercent, before === 'critical')) return 'critical';
  if (isAbove(limits.warningPercent, before !== 'normal')) return 'warning';
  return 'normal';
}
