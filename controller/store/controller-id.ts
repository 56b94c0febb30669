import { join } from 'node:path';
import { clock } from '../../shared/util/clock.ts';
import { keptFile } from './kept-file.ts';

/** By which a controller knows in the store what was its own before it was started again: made once, kept with its data. */
export function controllerId(dataDirectory: string): string {
  return keptFile(join(dataDirectory, 'controller-id'), () => `${clock.uuid()}\n`).trim();
}
