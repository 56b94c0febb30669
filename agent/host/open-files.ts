import { readdir, readlink } from 'node:fs/promises';

/** Whether another process of this host has the file at a path open, as far as this user may see. */
export async function isFileOpen(path: string): Promise<boolean> {
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue;
    // It may have ended, or be somebody else's.
    for (const fd of await readdir(`/proc/${pid}/fd`).catch(() => []))
      if ((await readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')) === path) return true;
  }
  return false;
}
