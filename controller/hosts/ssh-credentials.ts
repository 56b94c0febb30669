import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import ssh2, {
  type AnyAuthMethod,
  type BaseAgent,
  type ParsedKey,
  type SignCallback,
  type SigningRequestOptions,
} from 'ssh2';
import { StowageError } from '../../shared/util/errors.ts';
import type { SshAddress } from '../store/host-address.ts';

/** ssh(1)'s own, in its order, without the kinds of keys that need a token. */
const USUAL = ['id_rsa', 'id_ecdsa', 'id_ed25519'];

export interface Credentials {
  /** In the order in which they are tried. */
  methods: AnyAuthMethod[];
  /** What they are called, and what could not be used, for whoever is not let in. */
  tried: string[];
}

interface IdentityFile {
  /** The private key, where it can be read; undefined where only the SSH agent can use it. */
  key?: Buffer;
  /** What a host knows it by; undefined where nobody can tell. */
  publicKey?: Buffer;
  /** How it is called, and why it cannot be used itself. */
  name: string;
}

const parsed = (text: Buffer | undefined): ParsedKey | undefined => {
  const key = text && ssh2.utils.parseKey(text);
  return key === undefined || key instanceof Error ? undefined : key;
};

/** An identity file; undefined where nothing is. One that is encrypted, or public, says which key of the agent is meant. */
async function readIdentity(path: string): Promise<IdentityFile | undefined> {
  const read = (from: string): Promise<Buffer | NodeJS.ErrnoException> =>
    readFile(from).catch((error: NodeJS.ErrnoException) => error);
  const text = await read(path);
  if (text instanceof Error)
    return text.code === 'ENOENT' ? undefined : { name: `${path} (it cannot be read: ${text.code})` };
  const key = ssh2.utils.parseKey(text);
  if (!(key instanceof Error))
    return { name: path, key: key.isPrivateKey() ? text : undefined, publicKey: key.getPublicSSH() };
  const beside = await read(`${path}.pub`);
  const publicKey = parsed(beside instanceof Error ? undefined : beside)?.getPublicSSH();
  const why = /encrypted|passphrase/i.test(key.message)
    ? 'it is encrypted: add it to the SSH agent with ssh-add'
    : key.message;
  return { name: `${path} (${why})`, publicKey };
}

/** The SSH agent with some of its keys. */
class SomeKeys extends ssh2.BaseAgent {
  readonly #agent: BaseAgent;
  readonly #offers: (publicKey: Buffer) => boolean;

  constructor(agent: BaseAgent, offers: (publicKey: Buffer) => boolean) {
    super();
    this.#agent = agent;
    this.#offers = offers;
  }

  override getIdentities: BaseAgent['getIdentities'] = (done) => {
    this.#agent.getIdentities((error, keys) => {
      if (error) return done(error);
      done(
        undefined,
        (keys ?? []).filter((key) => {
          const known = key instanceof Buffer || typeof key === 'string' ? ssh2.utils.parseKey(key) : key;
          return known instanceof Error || !('getPublicSSH' in known) || this.#offers(known.getPublicSSH());
        }),
      );
    });
  };

  override sign(
    key: string | Buffer | ParsedKey,
    data: Buffer,
    options: SigningRequestOptions | SignCallback,
    done?: SignCallback,
  ): void {
    if (typeof options === 'function') this.#agent.sign(key, data, options);
    else this.#agent.sign(key, data, options, done);
  }
}

/**
 * How we can say who we are, in the way of ssh(1): with the identity files that were given, then with the keys of the SSH agent,
 * of which `identitiesOnly` leaves those of the files, and where no files were given with the usual ones. No key is offered
 * twice, for servers count. Throws `host-authentication` where there is nothing to try.
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
  const files: IdentityFile[] = [];
  for (const path of given) files.push((await readIdentity(path)) ?? { name: `${path} (it is not there)` });
  const add = ({ key, name }: IdentityFile): void => {
    tried.push(name);
    if (key) methods.push({ type: 'publickey', username, key });
  };
  for (const file of files) add(file);
  const socket = process.env.SSH_AUTH_SOCK;
  if (socket) {
    tried.push(identitiesOnly ? 'the same keys in the SSH agent' : 'the keys of the SSH agent');
    const isIn = (some: IdentityFile[], publicKey: Buffer): boolean =>
      some.some((file) => file.publicKey?.equals(publicKey));
    const offers = (publicKey: Buffer): boolean =>
      !isIn(
        files.filter(({ key }) => key),
        publicKey,
      ) &&
      (!identitiesOnly || isIn(files, publicKey));
    methods.push({ type: 'agent', username, agent: new SomeKeys(ssh2.createAgent(socket), offers) });
  }
  if (given.length === 0)
    for (const name of USUAL) {
      const file = await readIdentity(join(homedir(), '.ssh', name));
      if (file) add(file);
    }
  if (methods.length > 0) return { methods, tried };
  throw new StowageError(
    'host-authentication',
    tried.length > 0
      ? `there is no key to try: ${tried.join(', ')}`
      : 'there is no key to try: give --identity, add one to the SSH agent of the controller, or make one with ssh-keygen',
  );
}
