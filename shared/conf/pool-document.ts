import { StowageError } from '../util/errors.ts';
import type { PoolDefinition } from './pool.ts';
import { isPoolType } from './pool-types.ts';
import { formatPool, type PoolSizes } from './pool-xml.ts';

/** The document of a pool as its host sees it. */
export function documentOf(pool: Omit<PoolDefinition, 'autostart'>, sizes: PoolSizes): string {
  const { type } = pool;
  if (!isPoolType(type))
    throw new StowageError(
      'not-supported',
      `libvirt has no pools of type '${type}', and no document for them`,
    );
  return formatPool({ ...pool, type }, sizes);
}
