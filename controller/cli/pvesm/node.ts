import type { FleetPool, HostDetails } from '../../../shared/protocol/api.ts';
import { namingOf } from '../../../shared/pve/images.ts';
import { type PveVolumeName, parseVolumeId, parseVolumeName } from '../../../shared/pve/volume-names.ts';
import { isStowageError, StowageError } from '../../../shared/util/errors.ts';
import { callJson } from '../client.ts';
import { callPages } from '../pages.ts';
import { poolPath, type VolumeReference } from '../references.ts';

/** The host whose pools are the storages: the one that was named, else the only one there is. */
export async function nodeOf({ node = process.env.STOWAGE_NODE }: { node?: string }): Promise<string> {
  if (node) return node;
  const [host, another] = await callJson<HostDetails[]>('/hosts');
  if (host && !another) return host.name;
  throw new StowageError('invalid-argument', 'which host? Say so by --node, or by STOWAGE_NODE');
}

export function storagesOf(host: string): Promise<FleetPool[]> {
  return callPages<FleetPool>('/pools', { host }, (pool) => `${pool.host}/${pool.name}`);
}

/** Throws `pool-not-found` in pvesm's words. */
export async function storage(host: string, pool: string): Promise<FleetPool> {
  return callJson<FleetPool>(poolPath({ host, pool })).catch((error) => {
    if (!isStowageError(error, 'pool-not-found')) throw error;
    throw new StowageError('pool-not-found', `storage '${pool}' does not exist`);
  });
}

/** Which volume a volume id names on a host. */
export async function volumeNamed(
  host: string,
  volid: string,
): Promise<{ reference: VolumeReference; parsed: PveVolumeName; pool: FleetPool }> {
  const { storage: name, volname } = parseVolumeId(volid);
  const pool = await storage(host, name);
  const parsed = parseVolumeName(namingOf(pool), volname);
  return { reference: { host, pool: name, volume: parsed.name }, parsed, pool };
}
