import { StowageError } from '../util/errors.ts';
import type { PoolDefinition } from './pool.ts';
import type { PoolSource } from './pool-source.ts';
import type { Volume } from './volume.ts';

/** A node of QEMU's block layer, as `-blockdev` and `blockdev-add` take it. */
export type BlockDevice = { driver: string } & Record<string, unknown>;

type SourcePool = Pick<PoolDefinition, 'type' | 'source'>;

const CEPH_PORT = 3300;
const GLUSTER_PORT = 24007;
const ISCSI_PORT = 3260;

const serversOf = ({ hosts }: PoolSource, port: number) =>
  hosts.map((host) => ({ host: host.name, port: String(host.port ?? port) }));

/** `POOL/IMAGE`, `POOL/NAMESPACE/IMAGE`. */
function rbdNode(source: PoolSource, name: string): BlockDevice {
  const [pool = '', namespace] = (source.name ?? '').split('/');
  const server = serversOf(source, CEPH_PORT);
  return {
    driver: 'rbd',
    pool,
    ...(namespace !== undefined && { namespace }),
    image: name,
    ...(source.auth && { user: source.auth.username }),
    ...(server.length > 0 && { server }),
  };
}

/** `gluster://SERVER/VOLUME/PATH`. */
function glusterNode(source: PoolSource, path: string): BlockDevice {
  const [, volume, file] = /^gluster:\/\/[^/]+\/([^/]+)\/(.+)$/.exec(path) ?? [];
  const server = serversOf(source, GLUSTER_PORT).map((each) => ({ type: 'inet', ...each }));
  return { driver: 'gluster', volume, path: file, server };
}

/** `ip-HOST:PORT-iscsi-TARGET-lun-NUMBER`. */
function iscsiNode({ auth, initiatorIqn }: PoolSource, path: string): BlockDevice {
  const [, portal = '', target, lun] = /^ip-(.+?)-iscsi-(.+)-lun-(\d+)$/.exec(path) ?? [];
  return {
    driver: 'iscsi',
    transport: 'tcp',
    portal: /:\d+$/.test(portal) ? portal : `${portal}:${ISCSI_PORT}`,
    target,
    lun: Number(lun),
    ...(initiatorIqn !== undefined && { 'initiator-name': initiatorIqn }),
    ...(auth && { user: auth.username }),
  };
}

/** Throws `not-supported` for what is reached by the network in a way that QEMU does not have, or is not known to have. */
function storageNode({ type: poolType, source }: SourcePool, { type, path, name }: Volume): BlockDevice {
  if (type === 'file') return { driver: 'file', filename: path };
  if (type === 'block') return { driver: 'host_device', filename: path };
  if (type === 'ploop') return { driver: 'file', filename: `${path}/root.hds` };
  switch (poolType) {
    case 'rbd':
      return rbdNode(source, name);
    case 'gluster':
      return glusterNode(source, path);
    case 'iscsi-direct':
      return iscsiNode(source, path);
    default:
      throw new StowageError('not-supported', `QEMU opens no volume of a pool of type '${poolType}'`);
  }
}

/** What QEMU calls the formats of volumes. */
const DRIVERS: Record<Volume['format'], string | undefined> = {
  raw: 'raw',
  qcow2: 'qcow2',
  luks: 'luks',
  ploop: 'parallels',
  vmdk: 'vmdk',
  unknown: undefined,
};

/**
 * How QEMU on the host of a pool opens a volume of it: a node for its format over one for its storage, each driver named, nothing guessed.
 * A base is opened for reading only. Secrets are not in it: the caller adds `key-secret` (rbd, luks), `password-secret` (iSCSI) or
 * `encrypt.key-secret` (qcow2). `backing` is the node of what an overlay stands on; without it QEMU goes by the header of the image. Throws
 * `not-supported` for a ploop volume with snapshots, for storage that QEMU does not reach, and for an overlay without `backing` whose header
 * tells no format, which QEMU would guess; `volume-damaged` for one that cannot be used.
 */
export function blockDeviceOf(
  pool: SourcePool,
  volume: Volume,
  { nodeName, backing }: { nodeName?: string; backing?: BlockDevice } = {},
): BlockDevice {
  const { name, format, isBase, encryption, snapshotCount, damaged, backingStore } = volume;
  const driver = DRIVERS[format];
  if (driver === undefined || damaged !== undefined)
    throw new StowageError(
      'volume-damaged',
      `volume '${name}' cannot be used: ${damaged ?? 'its format is not known'}`,
    );
  if (format === 'ploop' && snapshotCount > 0)
    throw new StowageError('not-supported', 'QEMU opens no ploop volume that has snapshots');
  if (backingStore && backingStore.format === undefined && !backing)
    throw new StowageError(
      'not-supported',
      `the image of '${name}' does not say of which format '${backingStore.path}' is, on which it stands; qemu-img rebase -u -F says it`,
    );
  return {
    driver,
    ...(nodeName !== undefined && { 'node-name': nodeName }),
    ...(isBase && { 'read-only': true }),
    // Whatever the image says: none stands on another here.
    ...(format === 'vmdk' && { backing: null }),
    ...(backingStore && backing && { backing }),
    ...(format === 'qcow2' && encryption && { encrypt: { format: 'luks' } }),
    file: storageNode(pool, volume),
  };
}
