import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { AuditTrail } from './audit/trail.ts';
import { totpLabel } from './auth/account.ts';
import { Sealing } from './secrets/sealing.ts';
import { secretLabel } from './secrets/secrets.ts';
import { AUDIT_KEY, LINK_KEY, SECRETS_KEY } from './store/key-files.ts';
import type { Store } from './store/store.ts';

/** One of each kind that the key of the secrets has sealed. */
async function sealedIn({ secrets, users }: Store): Promise<{ sealed: string; label: string }[]> {
  const [secret] = await secrets.all();
  const withCodes = (await users.all()).find(({ totp }) => totp !== undefined);
  return [
    ...(secret ? [{ sealed: secret.sealed, label: secretLabel(secret) }] : []),
    ...(withCodes ? [{ sealed: withCodes.totp!, label: totpLabel(withCodes.id) }] : []),
  ];
}

/**
 * Why the keys of a data directory are not those of its store: a key is missing though the store has what was signed or sealed by it, or it
 * is another one. Empty for a store that fits, and for a new one. Makes no key.
 */
export async function keyProblems(store: Store, directory: string): Promise<string[]> {
  const problems: string[] = [];
  const isThere = (name: string): boolean => existsSync(join(directory, name));
  if (await store.audit.last()) {
    if (!isThere(AUDIT_KEY)) problems.push(`${AUDIT_KEY} is missing, and the audit trail is signed by it`);
    else if (!(await new AuditTrail(store, directory).isHeadSigned()))
      problems.push(
        `${AUDIT_KEY} has not signed the newest record: it is another key, or the trail was changed`,
      );
  }
  const sealed = await sealedIn(store);
  if (sealed.length > 0 && !isThere(SECRETS_KEY))
    problems.push(
      `${SECRETS_KEY} is missing, and the secrets of storage and of second factors are sealed by it`,
    );
  else if (sealed.length > 0) {
    const sealing = new Sealing(join(directory, SECRETS_KEY));
    const isOpened = ({ sealed: text, label }: (typeof sealed)[number]): boolean => {
      try {
        sealing.open(text, label);
        return true;
      } catch {
        return false;
      }
    };
    if (!sealed.every(isOpened)) problems.push(`${SECRETS_KEY} does not open the secrets: it is another key`);
  }
  if (!isThere(LINK_KEY) && (await store.hosts.isAnyEnrolled()))
    problems.push(`${LINK_KEY} is missing, and agents that dial in know the controller by it`);
  return problems;
}
