import type { KeyObject } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { createWebSocketStream, type WebSocket, WebSocketServer } from 'ws';
import { LINK_PATH, type LinkMessage, STREAM_PATH } from '../../shared/protocol/link.ts';
import { keyFingerprint, publicPem } from '../../shared/protocol/link-keys.ts';
import { clientTls } from '../../shared/transfer/tls.ts';
import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { AuditTrail } from '../audit/trail.ts';
import { keptKey } from '../store/kept-file.ts';
import { LINK_KEY } from '../store/key-files.ts';
import type { Store } from '../store/store.ts';
import { Handshake } from './handshake.ts';
import type { Link } from './link.ts';
import { Paced } from './paced.ts';

const STREAM_MS = 10_000;
const PING_MS = 10_000;
const SILENCE_MS = 30_000;

/** An agent that dialled in: asked over its control socket, it dials once more for each stream. */
class WebSocketLink implements Link {
  readonly #socket: WebSocket;
  readonly #waiting: Map<string, (stream: Duplex) => void>;
  readonly down: Promise<string>;
  readonly remoteAddress: string;
  /** With which its streams are encrypted; undefined where what is below does that. */
  readonly #secret: string | undefined;

  constructor(
    socket: WebSocket,
    remoteAddress: string,
    secret: string | undefined,
    waiting: Map<string, (stream: Duplex) => void>,
  ) {
    this.#socket = socket;
    this.#waiting = waiting;
    this.#secret = secret;
    this.remoteAddress = remoteAddress.replace(/^::ffff:/, '');
    this.down = new Promise((resolve) => {
      let heard = clock.now();
      socket.on('pong', () => {
        heard = clock.now();
      });
      const ping = clock.every(PING_MS, () => {
        if (clock.now() - heard > SILENCE_MS) socket.terminate();
        else socket.ping();
      });
      socket.once('close', () => {
        ping.stop();
        resolve('the agent hung up, or its network did');
      });
    });
  }

  open(): Promise<Duplex> {
    const id = clock.randomBytes(32).toString('base64url');
    return new Promise((resolve, reject) => {
      let dialled: Duplex | undefined;
      const timer = clock.after(STREAM_MS, () => {
        this.#waiting.delete(id);
        // Whoever dials and then says nothing keeps no socket.
        dialled?.destroy();
        reject(new StowageError('host-unreachable', 'the agent did not dial back in time'));
      });
      this.#waiting.set(id, (stream) => {
        this.#waiting.delete(id);
        dialled = stream;
        if (this.#secret === undefined) {
          timer.stop();
          return resolve(stream);
        }
        const sealed = clientTls(stream, { transfer: id, secret: this.#secret });
        stream.once('close', () => sealed.destroy());
        sealed.once('secureConnect', () => {
          timer.stop();
          resolve(sealed);
        });
        sealed.on('error', (error) => {
          timer.stop();
          stream.destroy();
          reject(
            new StowageError('host-unreachable', `what dialled back is not the agent: ${error.message}`),
          );
        });
      });
      this.#socket.send(JSON.stringify({ type: 'open', stream: id } satisfies LinkMessage));
    });
  }

  close(): void {
    this.#socket.terminate();
  }
}

/** What an agent takes turns for, in this order. */
const STAGES = { upgrade: 0, hello: 1, proof: 2, stream: 3 };

/** Takes the WebSockets of agents that dial in: checks who they are, and gives their links to who waits for them. */
export class WebSocketLinks {
  readonly #key: KeyObject;
  readonly #handshake: Handshake;
  readonly #server = new WebSocketServer({ noServer: true, maxPayload: 64 << 10, perMessageDeflate: false });
  readonly #streams = new WebSocketServer({ noServer: true, perMessageDeflate: false });
  readonly #paced = new Paced(Object.keys(STAGES).length);
  #isClosed = false;
  readonly #openings = new Map<string, (stream: Duplex) => void>();
  readonly #links = new Map<string, WebSocketLink>();
  readonly #waiters = new Map<string, (link: Link) => void>();

  constructor(store: Store, audit: AuditTrail, dataDirectory: string) {
    this.#key = keptKey(join(dataDirectory, LINK_KEY));
    this.#handshake = new Handshake(store, audit, this.#key);
  }

  /** By which agents know this controller. */
  get fingerprint(): string {
    return keyFingerprint(publicPem(this.#key));
  }

  /** The next link of a host: the one that is up, or the one that comes. */
  next(hostId: string, signal: AbortSignal): Promise<Link> {
    const link = this.#links.get(hostId);
    if (link) return Promise.resolve(link);
    return new Promise((resolve, reject) => {
      const cancel = (): void => {
        this.#waiters.delete(hostId);
        reject(new StowageError('cancelled', 'the host was removed'));
      };
      if (signal.aborted) return cancel();
      signal.addEventListener('abort', cancel, { once: true });
      this.#waiters.set(hostId, (next) => {
        signal.removeEventListener('abort', cancel);
        resolve(next);
      });
    });
  }

  /** Whether the request, from an address, is for us; then the socket is taken care of. */
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer, source: string): boolean {
    const path = request.url ?? '';
    if (path === LINK_PATH) {
      void this.#upgrade('upgrade', this.#server, request, socket, head).then((webSocket) =>
        this.#greet(webSocket, source),
      );
      return true;
    }
    if (!path.startsWith(`${STREAM_PATH}/`)) return false;
    const opening = this.#openings.get(path.slice(STREAM_PATH.length + 1));
    if (!opening) {
      socket.end('HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 0\r\n\r\n');
      return true;
    }
    void this.#upgrade('stream', this.#streams, request, socket, head).then((webSocket) => {
      const stream = createWebSocketStream(webSocket);
      stream.on('error', () => stream.destroy());
      opening(stream);
    });
    return true;
  }

  /** Never settles for one that is gone before its turn. */
  async #upgrade(
    stage: keyof typeof STAGES,
    server: WebSocketServer,
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
  ): Promise<WebSocket> {
    await this.#paced.turn(STAGES[stage]);
    if (this.#isClosed) socket.destroy();
    return new Promise((resolve) => server.handleUpgrade(request, socket, head, resolve));
  }

  async #greet(socket: WebSocket, source: string): Promise<void> {
    const admitted = await this.#handshake.greet(socket, source, (stage) => this.#paced.turn(STAGES[stage]));
    if (admitted) this.#take(admitted.hostId, socket, source, admitted.secret);
  }

  #take(hostId: string, socket: WebSocket, remoteAddress: string, secret: string | undefined): void {
    this.#links.get(hostId)?.close();
    const link = new WebSocketLink(socket, remoteAddress, secret, this.#openings);
    this.#links.set(hostId, link);
    void link.down.then(() => {
      if (this.#links.get(hostId) === link) this.#links.delete(hostId);
    });
    this.#waiters.get(hostId)?.(link);
    this.#waiters.delete(hostId);
  }

  /** Where the agent of a host dials from. */
  addresses(hostId: string): string[] {
    const link = this.#links.get(hostId);
    return link ? [link.remoteAddress] : [];
  }

  /** Ends the link of a host. */
  end(hostId: string): void {
    this.#links.get(hostId)?.close();
  }

  /** Ends every socket of every agent: the HTTP server that they came through waits for them. */
  close(): void {
    this.#isClosed = true;
    for (const server of [this.#server, this.#streams])
      for (const client of server.clients) client.terminate();
  }
}
