import { z } from 'zod';
import type { Volume } from '../../shared/conf/volume.ts';
import { backingFiles } from '../../shared/formats/qcow2/chain.ts';
import { RecordLog } from '../host/record-log.ts';
import { Kept } from './kept.ts';
import type { PoolChange } from './operations.ts';

const overlaySchema = z.object({ path: z.string(), backingStore: z.string() });
export type Overlay = z.infer<typeof overlaySchema>;

/** Whether a volume is a file whose header says that it stands on another one. */
export function isOverlayOn({ type, format, path, backingStore }: Volume, base: Volume): boolean {
  if (type !== 'file' || format !== 'qcow2' || !backingStore) return false;
  return backingFiles(path, backingStore.path).includes(base.path);
}

/** Which volumes of a pool stood on which files when they were last seen: known also while it is stopped, or its storage away. */
export class Overlays {
  readonly #records: Kept<RecordLog<Overlay>>;

  constructor(path: () => Promise<string>) {
    this.#records = new Kept(path, (file) => RecordLog.open(file, overlaySchema));
  }

  /** By the names of the volumes. */
  get(): Promise<RecordLog<Overlay>> {
    return this.#records.get();
  }

  async record({ volumes, gone }: PoolChange): Promise<void> {
    const records = await this.get();
    for (const { name, path, backingStore } of volumes) {
      const before = records.get(name);
      if (!backingStore) await records.delete(name);
      else if (before?.backingStore !== backingStore.path)
        await records.set(name, { path, backingStore: backingStore.path });
    }
    for (const { name } of gone) await records.delete(name);
  }

  close(): Promise<void> {
    return this.#records.close();
  }
}
