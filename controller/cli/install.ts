import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { clock } from '../../shared/util/clock.ts';

/** So long after it was replaced a command that runs still may read parts of itself that it has not needed before. */
const KEPT_MS = 3600_000;

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** As one word of sh(1). */
export const quote = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

/**
 * Bundles the command into a directory, where `stowage.mjs` is what is run: it begins at once, and needs no checkout. Gives the files
 * that it is made of.
 */
export async function bundleCommand(directory: string): Promise<string[]> {
  const { metafile } = await build({
    absWorkingDir: ROOT,
    metafile: true,
    entryPoints: [fileURLToPath(new URL('stowage.ts', import.meta.url))],
    outdir: directory,
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
  return Object.keys(metafile.inputs);
}

/**
 * Puts the command `stowage` into a directory for the PATH, or for a link to it from one: bundled, so that it begins at once,
 * and run by the Node that runs this process, whatever the machine's own is. What was there before is replaced. `data`: where its controller keeps its data.
 */
export async function installCommand(directory: string, data?: string): Promise<string> {
  mkdirSync(directory, { recursive: true });
  // Beside what is there: a command that runs now goes on with its own.
  const library = mkdtempSync(join(directory, 'lib-'));
  await bundleCommand(library);
  const command = join(directory, 'stowage');
  // Its hour begins now.
  const before = existsSync(command) ? /lib-\w+/.exec(readFileSync(command, 'utf8'))?.[0] : undefined;
  // Where the controller keeps what lets its owner in.
  const found =
    data === undefined ? '' : `[ -n "$STOWAGE_DATA" ] || STOWAGE_DATA=${quote(data)}\nexport STOWAGE_DATA\n`;
  const text = `#!/bin/sh\n${found}exec ${quote(process.execPath)} ${quote(join(library, 'stowage.mjs'))} "$@"\n`;
  writeFileSync(`${command}.new`, text, { mode: 0o755 });
  renameSync(`${command}.new`, command);
  const replaced = before && join(directory, before);
  if (replaced && existsSync(replaced)) utimesSync(replaced, clock.now() / 1000, clock.now() / 1000);
  for (const name of readdirSync(directory)) {
    const path = join(directory, name);
    if (!name.startsWith('lib') || path === library || path === replaced) continue;
    if (statSync(path).mtimeMs < clock.now() - KEPT_MS) rmSync(path, { recursive: true });
  }
  return command;
}
