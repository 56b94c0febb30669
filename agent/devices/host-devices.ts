import type { NodeDevice, NodeDevices } from '../../shared/conf/node-device.ts';
import type { PoolDefinition } from '../../shared/conf/pool.ts';
import type { FoundSource } from '../../shared/conf/sources-xml.ts';
import { cut } from '../../shared/util/errors.ts';
import type { Backend } from '../backends/backend.ts';
import type { BackendRegistry } from '../backends/registry.ts';
import { adapters } from './adapters.ts';
import { blockDevices } from './block-devices.ts';

/** A source that a backend found, in the words of a pool's source. */
function sourceDevice(type: string, { host, dir, devices = [], name, format }: FoundSource): NodeDevice {
  const place = [host, name ?? dir ?? devices[0]].filter((part) => part !== undefined).join(':');
  const made = name !== undefined && devices.length > 0 ? `made of ${devices.join(', ')}` : undefined;
  return { kind: 'source', name: place, holds: made ?? format, poolTypes: [type] };
}

/** With the backends that can use what is on each, or build on it. */
async function disksFor(backends: readonly Backend[]): Promise<NodeDevice[]> {
  return (await blockDevices()).map(({ content, ...device }) => {
    const fits = ({ devices }: Backend): boolean | undefined =>
      device.holds === undefined ? devices?.builds.includes(device.kind) : devices?.uses(content);
    return { ...device, poolTypes: backends.filter(fits).map(({ type }) => type) };
  });
}

/** The pool that has a device in its source. */
function poolOf({ name, kind, poolTypes }: NodeDevice, pools: readonly PoolDefinition[]): string | undefined {
  return pools.find(({ type, source }) => {
    if (source.devices.some(({ path }) => path === name)) return true;
    if (kind === 'scsi-adapter' || kind === 'fc-adapter')
      return (
        source.adapter?.type === 'scsi_host' && source.adapter.name?.replace(/^(scsi_)?/, 'scsi_') === name
      );
    // A thin pool is named with its group, a dataset with its zpool.
    const whole = source.name ?? source.dir;
    const at = source.hosts[0] ? `${source.hosts[0].name}:${whole}` : whole;
    return kind === 'source' && poolTypes.includes(type) && (at === name || at?.startsWith(`${name}/`));
  })?.name;
}

/**
 * What pools of this host could be made of, or are: disks and what lies on them, adapters, and what each usable backend finds: here, or
 * on the host `server`. What one of them cannot tell is named, and hides nothing else.
 */
export async function hostDevices(
  backends: BackendRegistry,
  pools: readonly PoolDefinition[],
  server: string | undefined,
): Promise<NodeDevices> {
  const problems: string[] = [];
  const told = async (what: string, work: () => Promise<NodeDevice[]>): Promise<NodeDevice[]> =>
    work().catch((error) => {
      problems.push(cut(`${what}: ${error instanceof Error ? error.message : String(error)}`, 300));
      return [];
    });
  const usable: Backend[] = [];
  for (const backend of backends.list()) if (!(await backends.probe(backend))) usable.push(backend);
  const finding = usable
    .filter(({ findsOn }) => findsOn === (server === undefined ? 'host' : 'server'))
    .map((backend) =>
      told(`pools of type ${backend.type}`, async () =>
        ((await backend.findSources?.(server)) ?? []).map((source) => sourceDevice(backend.type, source)),
      ),
    );
  const own =
    server === undefined ? [told('block devices', () => disksFor(usable)), told('adapters', adapters)] : [];
  const all = (await Promise.all([...own, ...finding])).flat();
  // What was told already, such as an adapter, is for pools of those types that found it too.
  const known = new Map(all.filter(({ kind }) => kind !== 'source').map((device) => [device.name, device]));
  const devices = all.filter((device) => {
    const before = device.kind === 'source' ? known.get(device.name) : undefined;
    before?.poolTypes.push(...device.poolTypes);
    return !before;
  });
  return {
    devices: devices.map((device) => ({ ...device, pool: poolOf(device, pools) })),
    problems,
  };
}
