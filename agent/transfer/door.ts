import { type AddressInfo, createServer, type Server } from 'node:net';
import type { Offer } from '../../shared/protocol/agent.ts';
import { SourceServer, type SourceServerOptions } from '../../shared/transfer/source-server.ts';

const MOST_CONNECTIONS = 64;

/** The source's own door for one transfer: a port of its own, or streams that the controller brings. */
export class SourceDoor extends SourceServer {
  readonly #tcp: Server;
  readonly offer: Offer;

  private constructor(options: SourceServerOptions, tcp: Server) {
    super(options);
    this.#tcp = tcp;
    tcp.maxConnections = MOST_CONNECTIONS;
    // One connection that could not be taken is not the end of the door.
    tcp.on('error', () => undefined);
    tcp.on('connection', (socket) =>
      this.accept(socket.setNoDelay(true).setKeepAlive(true, 10_000), socket.remoteAddress),
    );
    this.offer = { port: (tcp.address() as AddressInfo).port };
  }

  static async open(options: SourceServerOptions): Promise<SourceDoor> {
    return new SourceDoor(options, await listenAnywhere());
  }

  override [Symbol.dispose](): void {
    this.#tcp.close();
    super[Symbol.dispose]();
  }
}

/** A TCP server on a port that the system chooses. */
export async function listenAnywhere(): Promise<Server> {
  const tcp = createServer();
  await new Promise<void>((resolve, reject) => {
    tcp.once('error', reject);
    tcp.listen(0, resolve);
  });
  return tcp;
}
