import { z } from 'zod';
import { nameSchema } from '../../shared/util/names.ts';

/** Which host, pool or volume an action is about. */
export const hostAddress = z.object({ host: nameSchema });
export const poolAddress = hostAddress.extend({ pool: nameSchema });
export const volumeAddress = poolAddress.extend({ volume: nameSchema });

/** How much of a list is asked for. */
export const pageFields = { limit: z.number().int().min(1).max(10_000).default(1000) };
