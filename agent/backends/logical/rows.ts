import { type ImageFormatName, imageFormatNamed } from '../../formats/index.ts';
import { nodeFacts } from '../../volumes/blocks/device-node.ts';
import type { Device } from '../../volumes/blocks/device-storage.ts';

/** What `lvs` is asked for. */
export const VOLUME_FIELDS = [
  'vg_uuid',
  'lv_name',
  'lv_uuid',
  'lv_path',
  'lv_size',
  'lv_attr',
  'lv_layout',
  'lv_role',
  'lv_tags',
  'lv_health_status',
  'lv_kernel_major',
  'lv_kernel_minor',
  'origin',
  'origin_size',
  'pool_lv',
  'thin_id',
  'data_percent',
];

/** One logical volume as `lvs` tells of it. */
export type Row = Record<string, string>;

const list = (text = ''): string[] => text.split(',').filter(Boolean);

export const layoutOf = (row: Row): string[] => list(row.lv_layout);

const SNAPSHOT_TAG = 'stowage.snapshot=';

/** The tag of a thin volume that is a snapshot of its origin. */
export const snapshotTag = (id: string): string => `${SNAPSHOT_TAG}${id}`;

const FORMAT_TAG = 'stowage.format=';

/** The tag of a logical volume that holds an image of a format other than raw. */
export const formatTag = (format: ImageFormatName): string => `${FORMAT_TAG}${format}`;

/** The id of the snapshot that a logical volume is, by our tag or by the name that Proxmox VE gives: `snap_VOLUME_ID`. */
export function snapshotIdOf(row: Row): string | undefined {
  if (!row.origin || !row.pool_lv) return undefined;
  const tag = list(row.lv_tags).find((each) => each.startsWith(SNAPSHOT_TAG));
  if (tag !== undefined) return tag.slice(SNAPSHOT_TAG.length);
  const prefix = `snap_${row.origin}_`;
  return row.lv_name?.startsWith(prefix) ? row.lv_name.slice(prefix.length) : undefined;
}

/** Parts of others, pools of thin volumes, and snapshots that belong to a volume are no volumes. */
export function isVolume(row: Row): boolean {
  return (
    !layoutOf(row).includes('pool') &&
    !list(row.lv_role).includes('private') &&
    snapshotIdOf(row) === undefined
  );
}

/** A thin volume that was rolled back is another one in its pool, under the same node. */
export const markOf = (nodeMark: string | undefined, thinId: string): string | undefined =>
  nodeMark && `${nodeMark}/${thinId}`;

export const thinIdIn = (mark: string): string => mark.slice(mark.indexOf('/') + 1);

/** A logical volume as a device, told among all that may stand on it. */
export async function deviceOf(row: Row, rows: readonly Row[]): Promise<Device> {
  const { lv_name: name = '', lv_uuid: uid = '', lv_path: path = '', lv_attr: attributes = '' } = row;
  const { origin = '', lv_health_status: health = '' } = row;
  const [major, minor] = [Number(row.lv_kernel_major), Number(row.lv_kernel_minor)];
  const number = major >= 0 ? { major, minor } : undefined;
  const { mark, permissions } = await nodeFacts(path, number);
  const thin = row.pool_lv !== '';
  const lvBytes = Number(row.lv_size);
  const standing = rows.filter((other) => other.origin === name && name !== '');
  const invalid = origin !== '' && 'IS'.includes(attributes[4] ?? ' ');
  return {
    name,
    uid,
    format: imageFormatNamed(
      list(row.lv_tags)
        .find((tag) => tag.startsWith(FORMAT_TAG))
        ?.slice(FORMAT_TAG.length),
    ),
    path,
    number,
    mark: markOf(mark, row.thin_id ?? ''),
    permissions,
    // A snapshot is as large as what it was taken of, and takes what was changed since.
    sizeBytes: thin ? lvBytes : Number(row.origin_size) || lvBytes,
    allocationBytes: thin ? Math.round((lvBytes * Number(row.data_percent)) / 100) : lvBytes,
    open: attributes[5] === 'o',
    // A thin volume lives on without its origin.
    dependants: standing.filter((other) => other.pool_lv === '').map((other) => other.lv_name ?? ''),
    isBase: thin && attributes[1] === 'r',
    snapshotCount: standing.filter((other) => snapshotIdOf(other) !== undefined).length,
    backingStore: origin === '' ? undefined : { path: path.replace(/[^/]*$/, origin), format: 'raw' },
    damaged:
      health !== ''
        ? `LVM says that it is ${health}`
        : invalid
          ? 'the snapshot is invalid: it ran full'
          : undefined,
  };
}
