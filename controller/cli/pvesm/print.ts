import type { FleetPool, Image } from '../../../shared/protocol/api.ts';
import { isUp } from '../../../shared/protocol/pool-state.ts';
import { typeOf } from '../../../shared/pve/images.ts';
import { printable } from '../output.ts';

const KIB = 1024;
const kib = (bytes: number): string => String(Math.floor(bytes / KIB));

/** The table of `pvesm status`, in its columns. */
export function statusText(pools: readonly FleetPool[]): string {
  const sorted = [...pools].sort((left, right) => (left.name < right.name ? -1 : 1));
  const width = Math.max(0, ...sorted.map(({ name }) => printable(name).length)) + 1;
  const line = (name: string, ...cells: [string, string, string, string, string, string]): string => {
    const [type, status, total, used, free, share] = cells;
    const sizes = [total, used, free].map((cell) => cell.padStart(15)).join(' ');
    return `${name.padEnd(width)} ${type.padStart(10)} ${status.padStart(10)} ${sizes} ${share.padStart(8)}`;
  };
  const rows = sorted.map((pool) => {
    const { name, capacityBytes, allocationBytes, availableBytes } = pool;
    const isActive = isUp(pool);
    const [total, used, free] = isActive ? [capacityBytes, allocationBytes, availableBytes] : [0, 0, 0];
    const share = `${(total > 0 ? (used * 100) / total : 0).toFixed(2)}%`;
    const status = isActive ? 'active' : 'inactive';
    return line(printable(name), typeOf(pool), status, kib(total), kib(used), kib(free), share);
  });
  return [line('Name', 'Type', 'Status', 'Total', 'Used', 'Available', '%'), ...rows].join('\n');
}

/** The table of `pvesm list`, in its columns: the images of guests, then what belongs to nobody. */
export function listText(images: readonly Image[]): string {
  const ids = images.map(({ volid }) => printable(volid));
  const width = Math.max(0, ...ids.map((id) => id.length));
  const digits = Math.max(0, ...images.map(({ sizeBytes }) => sizeBytes)).toString().length;
  const line = (id: string, format: string, type: string, size: string, vmid: string): string =>
    `${id.padEnd(width)} ${format.padEnd(7)} ${type.padEnd(9)} ${size.padStart(digits)} ${vmid}`.trimEnd();
  const row = ({ volid, format, content, sizeBytes, vmid }: Image): string =>
    line(printable(volid), format, content, String(sizeBytes), vmid === undefined ? '' : String(vmid));
  const byFormat = (left: Image, right: Image): number => (left.format < right.format ? -1 : 1);
  return [
    line('Volid', 'Format', 'Type', 'Size', 'VMID'),
    ...images.filter(({ vmid }) => vmid !== undefined).map(row),
    ...images
      .filter(({ vmid }) => vmid === undefined)
      .sort(byFormat)
      .map(row),
  ].join('\n');
}
