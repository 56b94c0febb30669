import { readdir, readFile, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { runOk } from '../../host/run.ts';
import { DESCRIPTOR, type Descriptor } from './descriptor.ts';

/** Where the ploop kernel module shows its devices; another root serves tests on a captured tree. */
const SYS_BLOCK = process.env.STOWAGE_SYS_BLOCK ?? '/sys/block';

const absent = (error: NodeJS.ErrnoException): undefined => {
  // Devices come and go; whatever else keeps them from being read is no sign that there are none.
  if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error;
};

/**
 * The device (such as `ploop12345`) on which the kernel holds one of the volume's images, read from
 * /sys/block/ploop<minor>/pdelta/<level>/image; undefined without the module or when it is not mounted.
 */
export async function mountedDevice(directory: string, descriptor: Descriptor): Promise<string | undefined> {
  const devices = ((await readdir(SYS_BLOCK).catch(absent)) ?? []).filter((name) => name.startsWith('ploop'));
  if (devices.length === 0) return undefined;
  const real = await realpath(directory);
  const images = new Set(descriptor.images.map((image) => join(real, image.file)));
  for (const device of devices) {
    const levels = (await readdir(join(SYS_BLOCK, device, 'pdelta')).catch(absent)) ?? [];
    for (const level of levels) {
      const image = await readFile(join(SYS_BLOCK, device, 'pdelta', level, 'image'), 'utf8').catch(absent);
      if (image !== undefined && images.has(image.trim())) return device;
    }
  }
  return undefined;
}

/** Grows a mounted volume with the real tool: only the kernel may move clusters that it has mapped. */
export async function growMounted(directory: string, sizeSectors: number): Promise<void> {
  await ploopTool(directory, ['resize', '-s', String(sizeSectors)]);
}

/** Merges a snapshot of a mounted volume away with the real tool. */
export async function deleteSnapshotMounted(directory: string, guid: string): Promise<void> {
  await ploopTool(directory, ['snapshot-delete', '-u', guid]);
}

export async function snapshotMounted(directory: string, guid: string): Promise<void> {
  await ploopTool(directory, ['snapshot', '-u', guid]);
}

/** Debian's ploop reads past a small environment and crashes; a padding variable keeps it alive. */
async function ploopTool(directory: string, args: string[]): Promise<void> {
  // Where the directory is a descriptor of ours, the tool would take it for one of its own.
  const path = join(await realpath(directory), DESCRIPTOR);
  await runOk('ploop', [...args, path], { env: { PLOOP_ENVIRONMENT_PADDING: 'x'.repeat(8192) } });
}
