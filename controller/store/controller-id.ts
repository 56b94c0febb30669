import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { clock } from '../../shared/util/clock.ts';

/** By which a controller knows in the store what was its own before it was started again: made once, kept with its data. */
export function controllerId(dataDirectory: string): string {
  const path = join(dataDirectory, 'controller-id');
  if (!existsSync(path)) writeFileSync(path, `${clock.uuid()}\n`, { mode: 0o600, flag: 'wx', flush: true });
  return readFileSync(path, 'utf8').trim();
}
