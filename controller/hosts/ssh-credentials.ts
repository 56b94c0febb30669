import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import ssh2, { type AnyAuthMethod } from 'ssh2';
import { StowageError } from '../../shared/util/errors.ts';
import type { SshAddress } from './link.ts';

/** ssh(1)'s own, in its order, without the kinds of keys that need a token. */
const USUAL = ['id_rsa', 'id_ecdsa', 'id_ed25519'];

export interface Credentials {
  /** In the order in which they are tried. */
  methods: AnyAuthMethod[];
  /** What they are called, and what could not be used, for whoever is not let in. */
  tried: string[];
}

/**
 * How we can say who we are, as ssh(1) does it: with the identity files that were given, then with the keys of the SSH agent,
 * and where no files were given with the usual ones. A file that is encrypted is left to the agent. Throws
 * `host-authentication` where there is nothing to try.
 */
export async function credentials({
  user: username,
  identity,
  identities,
  identitiesOnly,
}: Pick<SshAddress, 'user' | 'identity' | 'identities' | 'identitiesOnly'>): Promise<Credentials> {
  const given = identity === undefined ? identities : [identity, ...identities];
  const methods: AnyAuthMethod[] = [];
  const tried: string[] = [];
  const addFile = async (path: string, mayBeAbsent: boolean): Promise<void> => {
    const text = await readFile(path).catch((error: NodeJS.ErrnoException) => {
      if (!mayBeAbsent || error.code !== 'ENOENT') tried.push(`${path} (it cannot be read: ${error.code})`);
    });
    if (text === undefined) return;
    const key = ssh2.utils.parseKey(text);
    if (key instanceof Error) {
      const encrypted = /encrypted|passphrase/i.test(key.message);
      tried.push(
        `${path} (${encrypted ? 'it is encrypted: add it to the SSH agent with ssh-add' : key.message})`,
      );
      return;
    }
    tried.push(path);
    methods.push({ type: 'publickey', username, key: text });
  };
  for (const path of given) await addFile(path, false);
  const agent = process.env.SSH_AUTH_SOCK;
  if (agent && !identitiesOnly) {
    tried.push('the keys of the SSH agent');
    methods.push({ type: 'agent', username, agent });
  }
  if (given.length === 0) for (const name of USUAL) await addFile(join(homedir(), '.ssh', name), true);
  if (methods.length > 0) return { methods, tried };
  throw new StowageError(
    'host-authentication',
    tried.length > 0
      ? `there is no key to try: ${tried.join(', ')}`
      : 'there is no key to try: give --identity, add one to the SSH agent of the controller, or make one with ssh-keygen',
  );
}
