import { cpSync, existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { ROOT } from './tree.ts';

/** What libraries bring that nothing reads when they run. */
const UNREAD = /\.(map|flow|md|markdown|d\.[mc]?ts)$/;
const LICENCE = /licen[cs]e|notice|copying/i;
/** What some are built from. */
const SOURCES =
  /^(better-sqlite3\/(deps|src)|(@react-\w+\/[\w-]+|react-aria|react-stately|react-aria-components)\/src|koffi\/(src|vendor|lib)|@koromix\/koffi-linux-\w+\/musl_\w+)$/;
const BUILT = /\/crypto\/build\b/;
const PREBUILT = /\/prebuilds\/[^/]+$/;

/** The directories of the libraries that run with the controller, by the lock file. */
function runtimeLibraries(): string[] {
  const lock = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8'));
  const packages: Record<string, { dev?: boolean }> = lock.packages;
  return Object.keys(packages).filter(
    // Those for other machines are not there.
    (path) => path !== '' && !packages[path]!.dev && existsSync(join(ROOT, path)),
  );
}

const isRead = (path: string): boolean => {
  const name = basename(path);
  // A library in a library is one of the lock file, too.
  if (name === 'node_modules' || name.startsWith('.')) return false;
  if (PREBUILT.test(path)) return name === `linux-${process.arch}.node`;
  if (SOURCES.test(path.slice(join(ROOT, 'node_modules/').length))) return false;
  // What was built here: the addon, and not how.
  if (BUILT.test(path)) return path.endsWith('.node') || /\/build(\/Release)?$/.test(path);
  return LICENCE.test(name) || !UNREAD.test(name);
};

/** Copies the libraries of the controller into a directory, without what nothing reads. Gives their directories. */
export function copyLibraries(directory: string): string[] {
  const libraries = runtimeLibraries();
  for (const library of libraries)
    cpSync(join(ROOT, library), join(directory, library), {
      recursive: true,
      verbatimSymlinks: true,
      filter: isRead,
    });
  return libraries;
}
