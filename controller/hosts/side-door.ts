import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { offerSchema } from '../../shared/protocol/agent.ts';
import { clientTls } from '../../shared/transfer/tls.ts';
import { clock } from '../../shared/util/clock.ts';
import { isStowageError } from '../../shared/util/errors.ts';
import type { AgentClient } from './agent-client.ts';
import type { Link } from './link.ts';

/** A host that does not let us in by now has a firewall before its ports. */
const DIAL_MS = 3000;
/** For so long it is not tried again then. */
const CLOSED_MS = 10 * 60_000;

/**
 * Streams to an agent past its SSH link, for many bytes: the agent opens a port, and a one-time ticket that went over the link
 * lets us in by TLS, which costs a fraction of what SSH does. Where no port of the host can be reached, the link is used.
 */
export class SideDoor {
  readonly #client: AgentClient;
  readonly #link: Link;
  readonly #hostname: string;
  #closedUntil = 0;

  constructor(client: AgentClient, link: Link, hostname: string) {
    this.#client = client;
    this.#link = link;
    this.#hostname = hostname;
  }

  /** Throws `host-unreachable` when the link is down. */
  async open(): Promise<Duplex> {
    if (clock.now() < this.#closedUntil) return this.#link.open();
    const id = clock.uuid();
    const ticket = clock.randomBytes(32).toString('base64url');
    const { port } = await this.#client.json(offerSchema, '/v1/doors', {
      method: 'POST',
      json: { id, ticket },
    });
    try {
      return await this.#dial(port, { transfer: id, secret: ticket });
    } catch (error) {
      if (isStowageError(error)) throw error;
      this.#closedUntil = clock.now() + CLOSED_MS;
      return this.#link.open();
    }
  }

  async #dial(port: number, ticket: { transfer: string; secret: string }): Promise<Duplex> {
    const socket: Socket = connect({ host: this.#hostname, port });
    const timer = clock.after(DIAL_MS, () => socket.destroy(new Error('no answer')));
    try {
      await once(socket, 'connect');
      socket.setNoDelay(true).setKeepAlive(true, 10_000);
      const secured = clientTls(socket, ticket);
      socket.once('close', () => secured.destroy());
      await once(secured, 'secureConnect');
      return secured;
    } catch (error) {
      socket.destroy();
      throw error;
    } finally {
      timer.stop();
    }
  }
}
