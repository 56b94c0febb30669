import type { Stats } from 'node:fs';
import { lstat, opendir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Turns } from '../../../shared/util/turns.ts';
import type { FoundOrphan } from '../../backends/backend.ts';
import { entriesIfExists } from '../../host/files.ts';
import type { Layout } from './layout.ts';
import { PRIVATE, type PrivateDirectory } from './private-directory.ts';

/** What tools and kernels make in any directory for themselves. */
const ORDINARY = new Set([PRIVATE, 'lost+found', '.snapshots', '.trashcan', '.glusterfs']);

/** Entries of directories that are counted for one answer: a second or two. */
const MOST_COUNTED = 20_000;

/** In the private directory of an agent: what lies there, by the directory that it lies in. */
const LEFT: Record<string, string> = {
  new: 'was being made when an agent was ended',
  trash: 'was being deleted when an agent was ended',
  kept: 'a volume in the trash of an agent',
  stages: 'a transfer to this pool that is not over',
};

function kindOf(stat: Stats): string {
  if (stat.isSymbolicLink()) return 'a link, which is no volume';
  if (stat.isDirectory()) return 'a directory that holds no ploop volume';
  if (stat.isFile()) return 'a file that is no volume';
  return 'a special file, which is no volume';
}

/** Gone meanwhile, or not ours to read. */
const isUnreadable = (error: unknown): boolean =>
  ['ENOENT', 'ENOTDIR', 'EACCES', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '');

/** Looks at what lies there. All the trees of one of these together are counted up to a limit. */
class Survey {
  #left = MOST_COUNTED;

  /** undefined for what has gone meanwhile. */
  async look(path: string, what: (stat: Stats) => string): Promise<FoundOrphan | undefined> {
    try {
      const stat = await lstat(path);
      const allocationBytes = stat.isDirectory() ? await this.#count(path) : stat.blocks * 512;
      return { path, what: what(stat), modifiedAt: Math.round(stat.mtimeMs), allocationBytes };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      return undefined;
    }
  }

  /** The allocation of a tree; undefined where it is too large to count, changes meanwhile, or may not be read. */
  async #count(directory: string): Promise<number | undefined> {
    let sum = 0;
    try {
      for await (const entry of await opendir(directory, { recursive: true })) {
        if (this.#left === 0) return undefined;
        this.#left--;
        sum += (await lstat(join(entry.parentPath, entry.name))).blocks * 512;
      }
    } catch (error) {
      if (isUnreadable(error)) return undefined;
      throw error;
    }
    return sum;
  }
}

/** Directories that volumes lie in, or below which there are such: nobody's leftovers. */
function withParents(directories: readonly string[]): Set<string> {
  const all = new Set<string>();
  for (const directory of directories)
    for (let at = directory; at !== '' && at !== '.'; at = dirname(at)) all.add(at);
  return all;
}

/**
 * What lies in the directories of a pool beside its volumes, which `isVolume` knows, and beside what `place` works on: hidden and special
 * files, directories that are no volumes, and what this agent and others left in their private directories.
 */
export async function* orphansIn(
  pool: string,
  layout: Layout,
  place: PrivateDirectory,
  isVolume: (name: string, path: string) => Promise<boolean>,
): AsyncGenerator<FoundOrphan> {
  const turns = new Turns();
  const survey = new Survey();
  const directories = await layout.directories(pool);
  const ours = withParents(directories);
  for (const directory of new Set(['', ...directories]))
    for (const entry of await entriesIfExists(join(pool, directory))) {
      if (turns.due) await turns.next();
      const at = join(directory, entry);
      if (ORDINARY.has(at) || ours.has(at) || layout.isOthers?.(at)) continue;
      const name = layout.nameAt(at);
      const path = join(pool, at);
      if (name !== undefined && (await isVolume(name, path))) continue;
      const found = await survey.look(path, kindOf);
      if (found) yield found;
    }
  const root = join(pool, PRIVATE);
  const agents = (await entriesIfExists(join(root, 'hosts'))).map((agentId) => ({
    agentId,
    directory: join(root, 'hosts', agentId),
  }));
  for (const { agentId, directory } of [{ agentId: undefined, directory: root }, ...agents])
    for (const [kind, what] of Object.entries(LEFT))
      for (const name of await entriesIfExists(join(directory, kind))) {
        const path = join(directory, kind, name);
        const isOurs = directory === place.path;
        // A transfer of ours is nobody's only when no job knows it: its controller sees to that.
        if (isOurs && (place.isUsed(name) || kind === 'stages')) continue;
        const found = await survey.look(path, () => what);
        if (found) yield { ...found, agentId, trashId: isOurs && kind === 'kept' ? name : undefined };
      }
}
