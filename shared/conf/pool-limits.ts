import type { PoolLimits } from './pool-usage.ts';

// Beside the schema, for the page, which has no zod.

/** Of a pool that has none of its own. */
export const DEFAULT_LIMITS: PoolLimits = { warningPercent: 80, criticalPercent: 95 };

/** For people. */
export const limitsText = ({ warningPercent, criticalPercent, provisionedPercent }: PoolLimits): string =>
  [
    `warning at ${warningPercent} %`,
    `critical at ${criticalPercent} %`,
    ...(provisionedPercent === undefined ? [] : [`volumes of at most ${provisionedPercent} %`]),
  ].join(', ');
