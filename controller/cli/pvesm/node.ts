import { isDeepStrictEqual } from 'node:util';
import type { FleetPool, HostDetails, Image } from '../../../shared/protocol/api.ts';
import { namingOf, poolNameOf, pveVolume } from '../../../shared/pve/images.ts';
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
    throw new StowageError(
      'pool-not-found',
      `storage '${pool}' does not exist, or is no pool of this node: 'stowage host doctor ${host}' tells which are none`,
    );
  });
}

/** Throws `pool-inaccessible` for a storage of which it cannot be told now what is in it. */
export function requireAvailable({ name, state, reason }: FleetPool): void {
  if (state !== 'running')
    throw new StowageError(
      'pool-inaccessible',
      `storage '${name}' is not available${reason === undefined ? '' : `: ${reason}`}`,
    );
}

/** The name of a volume that shall be, as a volume id tells it. Throws `invalid-name` for one that no volume of the storage can have. */
export async function newVolumeNamed(
  host: string,
  volid: string,
): Promise<{ reference: VolumeReference; parsed: PveVolumeName; pool: FleetPool }> {
  const { storage: name, volname } = parseVolumeId(volid);
  const pool = await storage(host, name);
  const naming = namingOf(pool);
  const parsed = parseVolumeName(naming, volname);
  const volume = poolNameOf(naming, parsed);
  if (parsed.base || !isDeepStrictEqual(pveVolume(naming, volume), parsed))
    throw new StowageError('invalid-name', `no new volume can be named '${volid}'`);
  return { reference: { host, pool: name, volume }, parsed, pool };
}

/** The volume that a volume id names on a host, all of it: the guest, and the base that it stands on. Throws `volume-not-found`. */
export async function volumeNamed(host: string, volid: string): Promise<VolumeReference> {
  const { storage: name, volname } = parseVolumeId(volid);
  const pool = await storage(host, name);
  parseVolumeName(namingOf(pool), volname);
  const images = await callJson<Image[]>(`/images?${new URLSearchParams({ host, pool: name, volid })}`);
  const [image] = images;
  if (!image) requireAvailable(pool);
  if (!image) throw new StowageError('volume-not-found', `volume '${volid}' does not exist`);
  return { host, pool: name, volume: image.name };
}
