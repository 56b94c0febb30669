import { StowageError } from '../util/errors.ts';
import type { PoolDefinition } from './pool.ts';
import { isPoolType } from './pool-types.ts';
import { formatPool, type PoolDocument, type PoolSizes } from './pool-xml.ts';

/**
 * The definition that a document asks for. What it asks beyond what a definition can say is refused with
 * `not-supported`: nothing that somebody wrote down is left out in silence.
 */
export function definitionOf(document: PoolDocument): Omit<PoolDefinition, 'autostart'> {
  const { type, name, uuid, target, source } = document;
  const beyond = {
    '<features>': document.cow,
    '<refresh>': document.refreshAllocation,
    'a <label>': target.permissions?.label,
    'mount options': document.mountOptions,
    'options of the cluster': document.configOptions,
    ...Object.fromEntries(Object.entries(source).map(([part, value]) => [`<source> (${part})`, value])),
  };
  for (const [what, value] of Object.entries(beyond)) {
    const given = Array.isArray(value) ? value.length > 0 : value !== undefined;
    if (given)
      throw new StowageError('not-supported', `pools of type '${type}' cannot have ${what} here yet`);
  }
  if (target.path === undefined)
    throw new StowageError(
      'not-supported',
      `pools of type '${type}', which have no target, cannot be here yet`,
    );
  return { name, uuid, type, target: { path: target.path, permissions: target.permissions } };
}

/** The document of a pool as its host sees it. */
export function documentOf(
  pool: Pick<PoolDefinition, 'name' | 'uuid' | 'type' | 'target'>,
  sizes: PoolSizes,
): string {
  const { name, uuid, type, target } = pool;
  if (!isPoolType(type))
    throw new StowageError(
      'not-supported',
      `libvirt has no pools of type '${type}', and no document for them`,
    );
  return formatPool({ type, name, uuid, source: { hosts: [], devices: [] }, target }, sizes);
}
