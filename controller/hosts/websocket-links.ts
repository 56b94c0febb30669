import { createHash, type KeyObject } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { createWebSocketStream, type WebSocket, WebSocketServer } from 'ws';
import { LINK_PATH, type LinkMessage, linkMessageSchema, STREAM_PATH } from '../../shared/protocol/link.ts';
import {
  isSignedByAgent,
  keyFingerprint,
  LinkKey,
  publicPem,
  signAsController,
} from '../../shared/protocol/link-keys.ts';
import { clientTls } from '../../shared/transfer/tls.ts';
import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { AuditTrail } from '../audit/trail.ts';
import { FailedAttempts, MOST_FAILURES } from '../auth/failed-attempts.ts';
import { keptKey } from '../store/kept-file.ts';
import type { HostRecord } from '../store/repositories/hosts.ts';
import type { Store } from '../store/store.ts';
import type { Link } from './link.ts';
import { Paced } from './paced.ts';

const HELLO_MS = 10_000;
/** More than an agent has to say before it is welcome. */
const MOST_MESSAGES = 4;
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

/** Takes the WebSockets of agents that dial in: checks who they are, and gives their links to who waits for them. */
export class WebSocketLinks {
  readonly #store: Store;
  readonly #audit: AuditTrail;
  readonly #key: KeyObject;
  readonly #failures = new FailedAttempts();
  readonly #server = new WebSocketServer({ noServer: true, maxPayload: 64 << 10, perMessageDeflate: false });
  readonly #streams = new WebSocketServer({ noServer: true, perMessageDeflate: false });
  readonly #paced = new Paced();
  readonly #openings = new Map<string, (stream: Duplex) => void>();
  readonly #links = new Map<string, WebSocketLink>();
  readonly #waiters = new Map<string, (link: Link) => void>();

  constructor(store: Store, audit: AuditTrail, dataDirectory: string) {
    this.#store = store;
    this.#audit = audit;
    this.#key = keptKey(join(dataDirectory, 'link-key.pem'));
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
    // It may break before its turn.
    socket.on('error', () => socket.destroy());
    if (path === LINK_PATH) {
      void this.#paced.turn().then(() => {
        this.#server.handleUpgrade(request, socket, head, (webSocket) => void this.#greet(webSocket, source));
      });
      return true;
    }
    if (!path.startsWith(`${STREAM_PATH}/`)) return false;
    const opening = this.#openings.get(path.slice(STREAM_PATH.length + 1));
    if (!opening) {
      socket.end('HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 0\r\n\r\n');
      return true;
    }
    void this.#paced.turn().then(() => {
      this.#streams.handleUpgrade(request, socket, head, (webSocket) => {
        const stream = createWebSocketStream(webSocket);
        stream.on('error', () => stream.destroy());
        opening(stream);
      });
    });
    return true;
  }

  async #greet(socket: WebSocket, source: string): Promise<void> {
    socket.on('error', () => socket.terminate());
    const messages = messagesOf(socket);
    const timer = clock.after(HELLO_MS, () => socket.terminate());
    try {
      const hello = await messages.next();
      if (hello.type !== 'hello')
        throw new StowageError('enrolment-refused', 'the agent did not say who it is');
      await this.#paced.turn();
      const linkKey = new LinkKey();
      const keys = { agent: hello.linkKey, controller: linkKey.publicKey };
      const publicKey = publicPem(this.#key);
      const signature = signAsController(this.#key, keys);
      socket.send(
        JSON.stringify({
          type: 'challenge',
          linkKey: linkKey.publicKey,
          publicKey,
          signature,
        } satisfies LinkMessage),
      );
      const proof = await messages.next();
      await this.#paced.turn();
      if (proof.type !== 'proof' || !isSignedByAgent(proof.publicKey, keys, publicKey, proof.signature))
        throw new StowageError('enrolment-refused', 'the agent could not prove that it has its key');
      const secret = hello.sealed ? linkKey.secret(hello.linkKey, keys) : undefined;
      const host = await this.#admit(proof, source);
      timer.stop();
      messages.end();
      socket.send(JSON.stringify({ type: 'welcome', host: host.name } satisfies LinkMessage));
      this.#take(host.id, socket, source, secret);
    } catch (error) {
      timer.stop();
      const reason = error instanceof Error ? error.message : String(error);
      // Nobody fills the trail by being refused.
      const { count, tooMany } = this.#failures.note(source);
      if (!tooMany)
        await this.#audit
          .append({
            actor: 'agent',
            source,
            action: 'host.link',
            target: '',
            outcome: 'refused',
            detail:
              count === MOST_FAILURES ? `${reason}; more from there in this minute are not recorded` : reason,
          })
          .catch(() => undefined);
      if (socket.readyState === socket.OPEN)
        socket.send(JSON.stringify({ type: 'refused', reason } satisfies LinkMessage));
      socket.close();
    }
  }

  /** The host that an agent is: by its token at the first time, by its key from then on. */
  async #admit(proof: Extract<LinkMessage, { type: 'proof' }>, source: string): Promise<HostRecord> {
    const known = (await this.#store.hosts.byAgentId(proof.agentId)).find(
      ({ address }) =>
        address.kind === 'websocket' &&
        address.publicKey === proof.publicKey &&
        address.agentId === proof.agentId,
    );
    if (known) return known;
    if (!proof.token)
      throw new StowageError(
        'enrolment-refused',
        'this agent is not enrolled; get a token with: stowage host token NAME',
      );
    await this.#audit.append({
      actor: 'agent',
      source,
      action: 'host.enrol',
      target: '',
      outcome: 'begun',
      detail: `agent ${proof.agentId}`,
    });
    const tokenHash = createHash('sha256').update(proof.token).digest('hex');
    const host = await this.#store.transaction(async ({ hosts }) => {
      const enrolment = await hosts.enrolment(tokenHash);
      if (!enrolment) throw new StowageError('enrolment-refused', 'the enrolment token is unknown');
      if (enrolment.usedAt !== undefined)
        throw new StowageError('enrolment-refused', 'the enrolment token was used before');
      if (enrolment.expiresAt < clock.now())
        throw new StowageError('enrolment-refused', 'the enrolment token has expired');
      const { hostId } = enrolment;
      const twin = (await hosts.byAgentId(proof.agentId)).find(({ id }) => id !== hostId);
      if (twin) throw new StowageError('enrolment-refused', `this agent is host '${twin.name}' already`);
      await hosts.useEnrolment(tokenHash, clock.now());
      const { publicKey, agentId } = proof;
      await hosts.setAddress(hostId, { kind: 'websocket', publicKey, agentId });
      await hosts.setAgent(hostId, agentId);
      // The enrolments of a host go with it.
      return (await hosts.byId(hostId))!;
    });
    await this.#audit.append({
      actor: 'agent',
      source,
      action: 'host.enrol',
      target: host.name,
      outcome: 'done',
      detail: `agent ${proof.agentId}`,
    });
    return host;
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
    for (const server of [this.#server, this.#streams])
      for (const client of server.clients) client.terminate();
  }
}

/** The messages of a socket, one at a time, until {@link end}: from then on an agent has nothing to say there. */
function messagesOf(socket: WebSocket): { next(): Promise<LinkMessage>; end(): void } {
  const arrived: LinkMessage[] = [];
  let wake: ((error?: Error) => void) | undefined;
  let ended: Error | undefined;
  const take = (data: unknown): void => {
    try {
      if (arrived.length >= MOST_MESSAGES) throw new Error('too many');
      arrived.push(linkMessageSchema.parse(JSON.parse(String(data))));
    } catch {
      ended = new StowageError('enrolment-refused', 'the agent speaks another protocol');
      socket.off('message', take);
    }
    wake?.();
  };
  socket.on('message', take);
  socket.once('close', () => {
    ended ??= new StowageError('enrolment-refused', 'the agent hung up');
    wake?.();
  });
  return {
    async next() {
      while (arrived.length === 0) {
        if (ended) throw ended;
        await new Promise<void>((resolve) => {
          wake = () => resolve();
        });
      }
      return arrived.shift()!;
    },
    end() {
      socket.off('message', take);
      socket.once('message', () => socket.terminate());
    },
  };
}
