import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { StowageError } from '../../shared/util/errors.ts';

/**
 * Lets the user edit a document in `$VISUAL` or `$EDITOR`, as virsh does. undefined when nothing was changed; what was
 * written is kept on disk until `accept` has taken it, and when that fails its place is told.
 */
export async function editDocument(
  document: string,
  accept: (edited: string) => Promise<void>,
): Promise<boolean> {
  const directory = mkdtempSync(join(tmpdir(), 'stowage-edit-'));
  const path = join(directory, 'document.xml');
  writeFileSync(path, document, { mode: 0o600 });
  const editor = process.env.VISUAL || process.env.EDITOR || 'vi';
  // By the shell: the variable may hold options, too. The path is ours.
  const { status } = spawnSync(`${editor} "${path}"`, { shell: true, stdio: 'inherit' });
  if (status !== 0) {
    rmSync(directory, { recursive: true });
    throw new StowageError('cancelled', `the editor '${editor}' ended with status ${status}`);
  }
  const edited = readFileSync(path, 'utf8');
  try {
    if (edited !== document) await accept(edited);
  } catch (error) {
    process.stderr.write(`stowage: what you wrote is kept in ${path}\n`);
    throw error;
  }
  rmSync(directory, { recursive: true });
  return edited !== document;
}
