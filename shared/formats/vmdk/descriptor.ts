import type { Bytes } from '../bytes.ts';
import { invalid, isVmdk, readAt, SECTOR, type VmdkHeader } from './header.ts';

/** Where qemu looks for a descriptor, and how much of it it reads, whatever the header says. */
const QEMU_DESCRIPTOR = { offset: SECTOR, length: 20 * SECTOR };
/** Of a descriptor. Other programs find them also where no line begins, such as behind a `#`. */
const PARENT = /parentCID[ \t]*=[ \t]*"?([0-9a-z]*)/gi;
const PARENT_FILE = /parentFileNameHint[ \t]*=?[ \t]*"?([^"\r\n\0]*)/i;
const NO_PARENT = 'ffffffff';
const EXTENT = /(?:RW|RDONLY|NOACCESS)[ \t]+\d+[ \t]+(\w+)/gi;

/** As many of the first bytes of a file as {@link refuseOthersInHead} needs; 0 for what is no vmdk image. */
export const vmdkHeadBytes = (head: Buffer): number =>
  isVmdk(head) ? QEMU_DESCRIPTOR.offset + QEMU_DESCRIPTOR.length : 0;

/** Throws `invalid-image` for the first bytes of an image that qemu would not open alone. */
export function refuseOthersInHead(head: Buffer): void {
  refuseOthersIn(head.toString('latin1', QEMU_DESCRIPTOR.offset, vmdkHeadBytes(head)));
}

/**
 * Throws `invalid-image` for an image that is not alone: one that stands on another, or whose data is partly elsewhere. A descriptor tells
 * both, in lines such as `parentCID=…` and `RW 8192 SPARSE "disk.vmdk"`. It is read where the header says that it is, and where qemu reads
 * it: what opens the image for a guest must not find another file than is found here.
 */
export async function refuseOthers(image: Bytes, { descriptor }: VmdkHeader): Promise<void> {
  for (const { offset, length } of [descriptor, QEMU_DESCRIPTOR])
    refuseOthersIn((await readAt(image, offset, length)).toString('latin1'));
}

function refuseOthersIn(text: string): void {
  const parents = [...text.matchAll(PARENT)].map(([, id = '']) => id.toLowerCase());
  const file = PARENT_FILE.exec(text);
  const other = file?.[1] ?? parents.find((id) => id !== NO_PARENT);
  if (other !== undefined)
    throw invalid(`a vmdk image that stands on another (${other.slice(0, 100)}) is refused`);
  const extents = [...text.matchAll(EXTENT)].map(([, kind = '']) => kind.toUpperCase());
  if (extents.length > 1) throw invalid(`a vmdk image of ${extents.length} files is refused`);
  const kind = extents[0] ?? 'SPARSE';
  if (kind !== 'SPARSE')
    throw invalid(`a vmdk image whose data is ${kind} is refused: it lies in another file`);
}
