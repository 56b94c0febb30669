import { createHash, type KeyObject } from 'node:crypto';
import type { WebSocket } from 'ws';
import { type LinkMessage, linkMessageSchema } from '../../shared/protocol/link.ts';
import { isSignedByAgent, LinkKey, publicPem, signAsController } from '../../shared/protocol/link-keys.ts';
import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { AuditTrail } from '../audit/trail.ts';
import { FailedAttempts, MOST_FAILURES } from '../auth/failed-attempts.ts';
import type { HostRecord } from '../store/repositories/hosts.ts';
import type { Store } from '../store/store.ts';

/** Longest that an agent takes for each of its messages. */
const MESSAGE_MS = 10_000;
/** More than an agent has to say before it is welcome. */
const MOST_MESSAGES = 4;

/** An agent that was let in. */
export interface Admitted {
  hostId: string;
  /** With which its streams are encrypted; undefined where what is below does that. */
  secret: string | undefined;
}

/** How an agent that dials in and this controller prove to each other who they are. */
export class Handshake {
  readonly #store: Store;
  readonly #audit: AuditTrail;
  readonly #key: KeyObject;
  readonly #failures = new FailedAttempts();

  constructor(store: Store, audit: AuditTrail, key: KeyObject) {
    this.#store = store;
    this.#audit = audit;
    this.#key = key;
  }

  /**
   * Welcomes an agent, or tells it why not, which is on record; then it gives undefined, and the socket is closing. `turn` is
   * awaited before each part that costs CPU.
   */
  async greet(
    socket: WebSocket,
    source: string,
    turn: (stage: 'hello' | 'proof') => Promise<void>,
  ): Promise<Admitted | undefined> {
    socket.on('error', () => socket.terminate());
    const messages = messagesOf(socket);
    try {
      const hello = await messages.next();
      if (hello.type !== 'hello')
        throw new StowageError('enrolment-refused', 'the agent did not say who it is');
      await turn('hello');
      const linkKey = new LinkKey();
      const keys = { agent: hello.linkKey, controller: linkKey.publicKey };
      const publicKey = publicPem(this.#key);
      const signature = signAsController(this.#key, keys);
      send(socket, { type: 'challenge', linkKey: linkKey.publicKey, publicKey, signature });
      const proof = await messages.next();
      await turn('proof');
      if (proof.type !== 'proof' || !isSignedByAgent(proof.publicKey, keys, publicKey, proof.signature))
        throw new StowageError('enrolment-refused', 'the agent could not prove that it has its key');
      const secret = hello.sealed ? linkKey.secret(hello.linkKey, keys) : undefined;
      const host = await this.#admit(proof, source);
      messages.end();
      send(socket, { type: 'welcome', host: host.name });
      return { hostId: host.id, secret };
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      await this.#recordRefusal(source, reason);
      if (socket.readyState === socket.OPEN) send(socket, { type: 'refused', reason });
      socket.close();
      return undefined;
    }
  }

  /** Nobody fills the trail by being refused. */
  async #recordRefusal(source: string, reason: string): Promise<void> {
    const { count, tooMany } = this.#failures.note(source);
    if (tooMany) return;
    const detail =
      count === MOST_FAILURES ? `${reason}; more from there in this minute are not recorded` : reason;
    const record = { actor: 'agent', source, action: 'host.link', target: '', detail };
    await this.#audit.append({ ...record, outcome: 'refused' }).catch(() => undefined);
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
    const record = { actor: 'agent', source, action: 'host.enrol', detail: `agent ${proof.agentId}` };
    await this.#audit.append({ ...record, target: '', outcome: 'begun' });
    const host = await this.#enrol(proof, proof.token);
    await this.#audit.append({ ...record, target: host.name, outcome: 'done' });
    return host;
  }

  async #enrol(
    { agentId, publicKey }: Extract<LinkMessage, { type: 'proof' }>,
    token: string,
  ): Promise<HostRecord> {
    const tokenHash = createHash('sha256').update(token).digest('hex');
    return this.#store.transaction(async ({ hosts }) => {
      const enrolment = await hosts.enrolment(tokenHash);
      if (!enrolment) throw new StowageError('enrolment-refused', 'the enrolment token is unknown');
      if (enrolment.usedAt !== undefined)
        throw new StowageError('enrolment-refused', 'the enrolment token was used before');
      if (enrolment.expiresAt < clock.now())
        throw new StowageError('enrolment-refused', 'the enrolment token has expired');
      const { hostId } = enrolment;
      const twin = (await hosts.byAgentId(agentId)).find(({ id }) => id !== hostId);
      if (twin) throw new StowageError('enrolment-refused', `this agent is host '${twin.name}' already`);
      await hosts.useEnrolment(tokenHash, clock.now());
      await hosts.setAddress(hostId, { kind: 'websocket', publicKey, agentId });
      await hosts.setAgent(hostId, agentId);
      // The enrolments of a host go with it.
      return (await hosts.byId(hostId))!;
    });
  }
}

const send = (socket: WebSocket, message: LinkMessage): void => socket.send(JSON.stringify(message));

/** The messages of a socket, one at a time, until {@link end}: from then on an agent has nothing to say there. */
function messagesOf(socket: WebSocket): { next(): Promise<LinkMessage>; end(): void } {
  const arrived: LinkMessage[] = [];
  let wake: (() => void) | undefined;
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
      const timer = clock.after(MESSAGE_MS, () => socket.terminate());
      try {
        while (arrived.length === 0) {
          if (ended) throw ended;
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
        return arrived.shift()!;
      } finally {
        timer.stop();
      }
    },
    end() {
      socket.off('message', take);
      socket.once('message', () => socket.terminate());
    },
  };
}
