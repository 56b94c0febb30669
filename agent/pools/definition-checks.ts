import type { Pool, PoolDefinition } from '../../shared/conf/pool.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { Backend } from '../backends/backend.ts';
import type { BackendRegistry } from '../backends/registry.ts';
import { locate } from '../host/mounts.ts';
import { refuseSystemDirectory } from './system-directories.ts';

/** The UUID of what has none. */
export const NIL = '00000000-0000-0000-0000-000000000000';

const WORDS = {
  cow: '<features>',
  refreshAllocation: '<refresh>',
  mountOptions: 'mount options',
  configOptions: 'options of the cluster',
  label: 'a <label>',
};

/** Throws `not-supported`, or what the backend throws, for a definition that no pool of its type can have. */
export function checkDefinition(backend: Backend, definition: Omit<PoolDefinition, 'uuid'>): void {
  const { type, target } = definition;
  const known: readonly string[] = backend.traits.options ?? [];
  const options = { ...definition, label: target.permissions?.label };
  for (const part of ['cow', 'refreshAllocation', 'mountOptions', 'configOptions', 'label'] as const)
    if (options[part] !== undefined && !known.includes(part))
      throw new StowageError('not-supported', `pools of type '${type}' cannot have ${WORDS[part]} here`);
  backend.check({ uuid: NIL, ...definition });
}

/**
 * Throws for a definition that this host cannot have beside its other `pools`: `not-supported` where its type does not work here,
 * `pool-exists` for a UUID or a directory that another pool has, `invalid-argument` for a directory of the system.
 */
export async function checkOnHost(
  backends: BackendRegistry,
  { type, uuid, name, target }: PoolDefinition,
  pools: readonly Pool[],
): Promise<void> {
  const backend = backends.get(type);
  const missing = await backends.probe(backend);
  if (missing) {
    const { reason, remedy } = missing;
    const words = remedy === undefined ? reason : `${reason}; ${remedy}`;
    throw new StowageError('not-supported', `pools of type '${type}' do not work on this host: ${words}`);
  }
  const others = pools.filter((pool) => pool.name !== name);
  const twin = others.find((other) => other.uuid === uuid);
  if (twin)
    throw new StowageError(
      'pool-exists',
      `operation failed: pool '${twin.name}' is already defined with uuid ${uuid}`,
    );
  if (backend.traits.target !== 'exclusive' || target.path === undefined) return;
  refuseSystemDirectory(target.path);
  refuseSharedTarget(
    target.path,
    others.filter((other) => isExclusive(backends, other)),
  );
}

/** Of a pool whose type is not known here its directory is its own, as far as can be told. */
function isExclusive(backends: BackendRegistry, { type }: Pool): boolean {
  const backend = backends.list().find((each) => each.type === type);
  return backend === undefined || backend.traits.target === 'exclusive';
}

function refuseSharedTarget(path: string, others: readonly Pool[]): void {
  const { path: real } = locate(path);
  for (const { name, target } of others) {
    if (target.path === undefined) continue;
    const { path: other } = locate(target.path);
    if (`${real}/`.startsWith(`${other}/`) || `${other}/`.startsWith(`${real}/`))
      throw new StowageError('pool-exists', `the directory overlaps that of pool '${name}', ${target.path}`);
  }
}
