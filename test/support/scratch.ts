import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, mkdtempSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

interface Scratch extends AsyncDisposable {
  path: string;
  /** Writes a file that only its owner reads, and gives its path. */
  file(name: string, content: string): string;
}

/** A directory of the test's own, gone when the scope ends. */
export function scratch(): Scratch {
  const path = mkdtempSync(join(tmpdir(), 'stowage-test-'));
  const remove = () => rm(path, { recursive: true, force: true });
  return {
    path,
    file(name, content) {
      const at = join(path, name);
      writeFileSync(at, content, { mode: 0o600 });
      return at;
    },
    [Symbol.asyncDispose]: () =>
      remove().catch(() => {
        // Bases are files that nobody takes away.
        spawnSync('chattr', ['-R', '-f', '-i', path]);
        return remove();
      }),
  };
}

export async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const part of createReadStream(path)) hash.update(part);
  return hash.digest('hex');
}

/** A small file system of its own on a loop device, or a tmpfs; root only. Unmounted when the scope ends. */
export function mountFileSystem(
  type: 'ext4' | 'xfs' | 'btrfs' | 'tmpfs',
  sizeMiB: number,
  at: string,
): AsyncDisposable {
  if (type === 'tmpfs') {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${sizeMiB}m`, 'none', at]);
  } else {
    const image = `${at}.img`;
    execFileSync('truncate', ['-s', `${sizeMiB}M`, image]);
    execFileSync(`mkfs.${type}`, ['-q', image]);
    execFileSync('mount', ['-o', 'loop', image, at]);
  }
  return {
    async [Symbol.asyncDispose]() {
      execFileSync('umount', ['-l', at]);
      await rm(`${at}.img`, { force: true });
    },
  };
}

export const isRoot = process.getuid?.() === 0;
