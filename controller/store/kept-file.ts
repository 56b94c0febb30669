import { createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { existsSync, linkSync, readFileSync, rmSync, writeFileSync } from 'node:fs';

/**
 * The text of a file that is made once and then kept, such as a key: read, or made by `make` when there is none. It gets its
 * name whole: a kill or a full disk leaves the file or none. An unreadable file is no missing one: that throws.
 */
export function keptFile(path: string, make: () => string, mode = 0o600): string {
  if (!existsSync(path)) {
    const unfinished = `${path}.new`;
    rmSync(unfinished, { force: true });
    writeFileSync(unfinished, make(), { mode, flag: 'wx', flush: true });
    // A file that came meanwhile stays.
    linkSync(unfinished, path);
    rmSync(unfinished);
  }
  return readFileSync(path, 'utf8');
}

/** An Ed25519 key that is made once and then kept. */
export function keptKey(path: string): KeyObject {
  const make = (): string =>
    generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  return createPrivateKey(keptFile(path, make));
}
