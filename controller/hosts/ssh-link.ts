import { createHash } from 'node:crypto';
import { connect as connectTcp, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { Client, type ClientChannel } from 'ssh2';
import { StowageError } from '../../shared/util/errors.ts';
import type { SshAddress } from '../store/host-address.ts';
import { type AgentPayload, installAgent } from './install-agent.ts';
import type { Link } from './link.ts';
import { type Credentials, credentials } from './ssh-credentials.ts';

const KEEPALIVE_MS = 5_000;
const KEEPALIVE_MISSES = 3;
const CONNECT_MS = 10_000;

/** `SHA256:…` of a raw host key, as ssh-keygen -l prints it. */
export function fingerprintOf(key: Buffer): string {
  return `SHA256:${createHash('sha256').update(key).digest('base64').replace(/=+$/, '')}`;
}

function dial(address: Pick<SshAddress, 'hostname' | 'port'>): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connectTcp({ host: address.hostname, port: address.port, timeout: CONNECT_MS });
    const fail = (why: string): void => {
      socket.destroy();
      reject(new StowageError('host-unreachable', `${address.hostname}:${address.port}: ${why}`));
    };
    socket.once('timeout', () => fail(`no answer within ${CONNECT_MS / 1000} s`));
    socket.once('error', (error) => fail(error.message));
    socket.once('connect', () => {
      // Without this, small packets wait for each other and a download runs at a quarter of its speed.
      socket.setTimeout(0);
      resolve(socket.setNoDelay(true));
    });
  });
}

/**
 * An SSH connection whose host key was checked against `expected`. With `expected` a function, it decides.
 * Throws `host-unreachable`, `host-key-mismatch` or `host-authentication`.
 */
async function connectSsh(
  address: Pick<SshAddress, 'hostname' | 'port' | 'user'>,
  { methods, tried }: Credentials,
  accept: (fingerprint: string) => boolean,
): Promise<Client> {
  const sock = await dial(address);
  const client = new Client();
  let seen = '';
  return new Promise((resolve, reject) => {
    client.once('ready', () => resolve(client));
    client.on('error', (error: Error & { level?: string }) => {
      // The next way to say who we are is tried.
      if (error.level === 'agent') return void tried.push(`(the SSH agent failed: ${error.message})`);
      client.end();
      sock.destroy();
      if (seen && !accept(seen)) {
        reject(
          new StowageError(
            'host-key-mismatch',
            `${address.hostname} shows the host key ${seen}, which is not the one pinned; nothing was sent`,
          ),
        );
      } else if (error.level === 'client-authentication' || /authentication fail/i.test(error.message)) {
        reject(
          new StowageError(
            'host-authentication',
            `${address.user}@${address.hostname} lets us in with none of: ${tried.join(', ')}`,
          ),
        );
      } else {
        reject(new StowageError('host-unreachable', `${address.hostname}:${address.port}: ${error.message}`));
      }
    });
    client.connect({
      authHandler: methods,
      sock,
      username: address.user,
      readyTimeout: CONNECT_MS,
      keepaliveInterval: KEEPALIVE_MS,
      keepaliveCountMax: KEEPALIVE_MISSES,
      algorithms: { cipher: { prepend: ['aes128-gcm@openssh.com'], append: [], remove: [] } },
      hostVerifier: (key: Buffer) => {
        seen = fingerprintOf(key);
        return accept(seen);
      },
    });
  });
}

/** The fingerprint that a host shows, for the one who adds it to look at. */
export async function scanHostKey(address: Pick<SshAddress, 'hostname' | 'port' | 'user'>): Promise<string> {
  // Its key is what a host shows first: nobody need be let in.
  const nobody: Credentials = { methods: [{ type: 'none', username: address.user }], tried: [] };
  let seen = '';
  const client = await connectSsh(address, nobody, (fingerprint) => {
    seen = fingerprint;
    return false;
  }).catch((error) => {
    if (!seen) throw error;
    return undefined;
  });
  client?.end();
  return seen;
}

/** An SSH connection to a host on which the agent was put and started; one channel a stream. */
export class SshLink implements Link {
  readonly #client: Client;
  readonly #open: () => Promise<ClientChannel>;
  readonly down: Promise<string>;
  readonly hostname: string;

  private constructor(
    client: Client,
    hostname: string,
    open: () => Promise<ClientChannel>,
    down: Promise<string>,
  ) {
    this.#client = client;
    this.hostname = hostname;
    this.#open = open;
    this.down = down;
  }

  /** Throws what `signal` is aborted with as soon as it is, whatever the host does. */
  static async connect(address: SshAddress, payload: AgentPayload, signal: AbortSignal): Promise<SshLink> {
    const client = await connectSsh(
      address,
      await credentials(address),
      (fingerprint) => fingerprint === address.fingerprint,
    );
    const down = new Promise<string>((resolve) => {
      client.once('close', () => resolve('the SSH connection ended'));
      client.on('error', (error) => resolve(error.message));
    });
    try {
      const { promise: gone, reject } = Promise.withResolvers<never>();
      gone.catch(() => undefined);
      const abort = (): void => reject(signal.reason);
      signal.addEventListener('abort', abort);
      if (signal.aborted) abort();
      void down.then((reason) => reject(new StowageError('host-unreachable', reason)));
      const { socket, bridge } = await Promise.race([installAgent(client, payload), gone]).finally(() =>
        signal.removeEventListener('abort', abort),
      );
      return new SshLink(
        client,
        address.hostname,
        bridge ? () => execChannel(client, bridge) : () => forward(client, socket),
        down,
      );
    } catch (error) {
      client.end();
      throw error;
    }
  }

  async open(): Promise<Duplex> {
    try {
      return await this.#open();
    } catch (error) {
      throw new StowageError(
        'host-unreachable',
        `no channel to the agent: ${error instanceof Error ? error.message : error}`,
      );
    }
  }

  close(): void {
    this.#client.end();
  }
}

function forward(client: Client, socket: string): Promise<ClientChannel> {
  return new Promise((resolve, reject) => {
    client.openssh_forwardOutStreamLocal(socket, (error, channel) =>
      error ? reject(error) : resolve(channel),
    );
  });
}

function execChannel(client: Client, command: string): Promise<ClientChannel> {
  return new Promise((resolve, reject) => {
    client.exec(command, (error, channel) => {
      if (error) return reject(error);
      channel.stderr.resume();
      resolve(channel);
    });
  });
}
