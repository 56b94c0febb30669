import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

/**
 * Puts the command `stowage` into a directory for the PATH, or for a link to it from one: bundled, so that it begins at once,
 * and run by the Node that runs this process, whatever the machine's own is. What was there before is replaced.
 */
export async function installCommand(directory: string): Promise<string> {
  const library = join(directory, 'lib');
  rmSync(library, { recursive: true, force: true });
  mkdirSync(library, { recursive: true });
  await build({
    entryPoints: [fileURLToPath(new URL('stowage.ts', import.meta.url))],
    outdir: library,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    splitting: true,
    minify: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    logLevel: 'error',
    banner: {
      js: "import{createRequire as bundleRequire}from'node:module';const require=bundleRequire(import.meta.url);",
    },
  });
  const command = join(directory, 'stowage');
  writeFileSync(command, `#!/bin/sh\nexec '${process.execPath}' '${join(library, 'stowage.mjs')}' "$@"\n`);
  chmodSync(command, 0o755);
  return command;
}
