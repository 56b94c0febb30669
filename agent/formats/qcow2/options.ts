import { resolve } from 'node:path';
import type { Qcow2Header } from '../../../shared/formats/qcow2/header.ts';
import type { Image } from '../../images/image.ts';
import { ENCRYPTED_QCOW2, escaped, type ToolName } from '../qemu-tool.ts';

/**
 * How qemu-img is told of an image: always with its format, so that it never guesses, by a descriptor that we opened
 * ourselves, and with its backing file by its whole path, as a relative one would start from the descriptor.
 */
export function imageOptions(
  name: ToolName,
  image: Image,
  { backingStore, encrypted }: Pick<Qcow2Header, 'backingStore' | 'encrypted'>,
): string {
  const options = ['driver=qcow2', name.options, ...(encrypted ? ENCRYPTED_QCOW2.options : [])];
  if (backingStore && image.directory !== undefined && !/^\w+:/.test(backingStore.path)) {
    const path = resolve(image.directory, backingStore.path);
    options.push(
      ...(backingStore.format ? [`backing.driver=${escaped(backingStore.format)}`] : []),
      `backing.file.filename=${escaped(path)}`,
    );
  }
  return options.join(',');
}
