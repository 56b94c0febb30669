import { runOk } from '../../host/run.ts';
import type { Image } from '../../images/image.ts';
import { withToolName } from '../qemu-tool.ts';

/** What an overlay stands on: a path that starts from its own directory, and in which format that is read. */
interface Backing {
  path: string;
  format: 'raw' | 'qcow2';
}

/** Makes a qcow2 image of a new file that holds nothing yet but what it stands on, which is not opened for that. */
export async function createOverlay(
  image: Image,
  capacityBytes: number,
  { path, format }: Backing,
  signal?: AbortSignal,
): Promise<void> {
  // qemu takes what is before a colon for a protocol.
  const relative = path.includes(':') ? `./${path}` : path;
  await withToolName(image, 'change', ({ operand }) =>
    runOk(
      'qemu-img',
      [
        ...['create', '-q', '-u', '-f', 'qcow2', '-o', 'compat=1.1'],
        ...['-b', relative, '-F', format, '--', operand, String(capacityBytes)],
      ],
      { signal },
    ),
  );
  await image.flush();
}
