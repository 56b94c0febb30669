import { access, constants } from 'node:fs/promises';
import { isStowageError } from '../../shared/util/errors.ts';
import { exists } from '../host/files.ts';
import { run } from '../host/run.ts';

/** What a host lacks, and how it gets that, as a command or in words. */
export interface Missing {
  reason: string;
  remedy?: string;
}

const install = (debianPackage: string): string => `apt-get install ${debianPackage}`;

/** A tool that cannot be started, such as with `--version`. */
export async function missingTool(
  tool: string,
  debianPackage: string,
  args = ['--version'],
): Promise<Missing | undefined> {
  try {
    await run(tool, args);
    return undefined;
  } catch (error) {
    if (isStowageError(error, 'tool-missing') || (error as NodeJS.ErrnoException).code === 'ENOENT')
      return { reason: `${tool}: not found`, remedy: install(debianPackage) };
    return { reason: `${tool}: ${error instanceof Error ? error.message : String(error)}` };
  }
}

/** A helper of mount(8) or mkfs(8), which must not be started to look for it. */
export async function missingHelper(name: string, debianPackage: string): Promise<Missing | undefined> {
  for (const directory of ['/sbin', '/usr/sbin', '/bin', '/usr/bin', '/usr/local/sbin'])
    if (await canRun(`${directory}/${name}`)) return undefined;
  return { reason: `${name}: not found`, remedy: install(debianPackage) };
}

const canRun = (path: string): Promise<boolean> =>
  access(path, constants.X_OK).then(
    () => true,
    () => false,
  );

/** A library that `load` cannot load. */
export function missingLibrary(load: () => unknown, debianPackage: string): Missing | undefined {
  try {
    load();
    return undefined;
  } catch (error) {
    return { reason: error instanceof Error ? error.message : String(error), remedy: install(debianPackage) };
  }
}

/** A part of the kernel that is seen at `path` once its module is loaded. */
export async function missingModule(
  path: string,
  what: string,
  module: string,
): Promise<Missing | undefined> {
  if (await exists(path)) return undefined;
  return { reason: `the kernel of this host has no ${what}`, remedy: `modprobe ${module}` };
}
