import pLimit from 'p-limit';
import { z } from 'zod';
import {
  type AgentEvent,
  type AgentInfo,
  agentEventSchema,
  agentInfoSchema,
  type EventsRequest,
  PROTOCOL_VERSION,
} from '../../shared/protocol/agent.ts';
import { clock, sleep } from '../../shared/util/clock.ts';
import { StowageError, toStowageError } from '../../shared/util/errors.ts';
import { AgentClient } from './agent-client.ts';
import { readLines } from './answers.ts';
import type { Link } from './link.ts';
import { SideDoor } from './side-door.ts';

/** The agent says that it is alive every 10 s. */
const SILENCE_MS = 25_000;
const FIRST_PAUSE_MS = 300;
const LONGEST_PAUSE_MS = 15_000;
const TELLING_AT_ONCE = 64;
const SLOW_AT_ONCE = 16;
const TURN_MS = 5000;

export interface ConnectionEvents {
  /** The link is up and the agent answered. */
  onReachable(info: AgentInfo): Promise<void>;
  onUnreachable(reason: string): Promise<void>;
  onEvent(event: AgentEvent): Promise<void>;
  /** What the host need not tell again. */
  known(): Promise<EventsRequest>;
}

interface Turn {
  end(): void;
  /** Whether it took too long and ended by itself. */
  readonly isUsedUp: boolean;
}

/**
 * At most 64 hosts send their state at the same time: more, as after a restart of the controller, would fill the memory while
 * the store is written.
 */
export class TellingTurns {
  readonly #limit = pLimit(TELLING_AT_ONCE);
  readonly #slow = pLimit(SLOW_AT_ONCE);

  /**
   * Settles when the turn has come. A turn that takes longer than 5 s ends by itself; a host whose last one did is `isSlow`
   * and waits for others of its kind only. Throws when `signal` ends before.
   */
  take(signal: AbortSignal, isSlow: boolean): Promise<Turn> {
    signal.throwIfAborted();
    return new Promise((begin, reject) => {
      const abort = (): void => reject(signal.reason);
      signal.addEventListener('abort', abort, { once: true });
      void (isSlow ? this.#slow : this.#limit)(async () => {
        signal.removeEventListener('abort', abort);
        if (signal.aborted) return reject(signal.reason);
        const { promise, resolve } = Promise.withResolvers<void>();
        const turn = { end: resolve, isUsedUp: false };
        const timer = clock.after(TURN_MS, () => {
          turn.isUsedUp = true;
          resolve();
        });
        begin(turn);
        await promise;
        timer.stop();
      });
    });
  }
}

/** What an agent begins its events with. Throws `protocol-version` for one of another version, whatever else it says. */
function infoOf(line: unknown): AgentInfo {
  const first = z.looseObject({ type: z.string() }).parse(line);
  const { protocol } = z.looseObject({ protocol: z.number().optional() }).parse(first.info ?? {});
  // Agents before protocol 7 began with another line.
  if (protocol !== PROTOCOL_VERSION)
    throw new StowageError(
      'protocol-version',
      `the agent speaks ${protocol === undefined ? 'an earlier protocol' : `protocol ${protocol}`}, this controller ${PROTOCOL_VERSION}`,
    );
  return agentInfoSchema.parse(first.info);
}

/**
 * Keeps one host reachable: makes a link, follows the agent's events over it, and when either ends tries again after a
 * jittered, growing pause. Requests made meanwhile fail at once with the reason.
 */
export class HostConnection {
  readonly client: AgentClient;
  readonly #makeLink: (signal: AbortSignal) => Promise<Link>;
  readonly #events: ConnectionEvents;
  readonly #turns: TellingTurns;
  readonly #stop = new AbortController();
  /** Aborted when the present link is over: what was asked over it is not answered any more. */
  #linkEnd = new AbortController();
  #link: Link | undefined;
  #sideDoor: SideDoor | undefined;
  /** Its last turn to tell was too short for it. */
  #isSlow = false;
  #reason = 'the first connection is being made';
  readonly #running: Promise<void>;

  constructor(
    host: string,
    makeLink: (signal: AbortSignal) => Promise<Link>,
    events: ConnectionEvents,
    turns: TellingTurns,
  ) {
    this.#makeLink = makeLink;
    this.#turns = turns;
    this.#events = events;
    this.client = new AgentClient(
      host,
      async (bulk) => {
        if (!this.#link)
          throw new StowageError('host-unreachable', `the host is unreachable: ${this.#reason}`);
        return bulk && this.#sideDoor ? this.#sideDoor.open() : this.#link.open();
      },
      () => this.#linkEnd.signal,
    );
    this.#running = this.#run();
  }

  async close(): Promise<void> {
    const gone = new StowageError('host-unreachable', 'the host is being let go of');
    this.#stop.abort(gone);
    this.#linkEnd.abort(gone);
    this.#link?.close();
    await this.#running;
  }

  async #run(): Promise<void> {
    let pauseMs = FIRST_PAUSE_MS;
    while (!this.#stop.signal.aborted) {
      try {
        await this.#live(() => {
          pauseMs = FIRST_PAUSE_MS;
        });
      } catch (error) {
        this.#reason = toStowageError(error).message;
      }
      this.#linkEnd.abort(new StowageError('host-unreachable', `the host is unreachable: ${this.#reason}`));
      this.#link?.close();
      this.#link = undefined;
      if (this.#stop.signal.aborted) return;
      await this.#events.onUnreachable(this.#reason).catch(() => undefined);
      await sleep(pauseMs * (0.5 + clock.random()), this.#stop.signal).catch(() => undefined);
      pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
    }
  }

  /** From one link's making to its end, which is always an error. */
  async #live(onUp: () => void): Promise<void> {
    const link = await this.#makeLink(this.#stop.signal);
    if (!this.#stop.signal.aborted) this.#linkEnd = new AbortController();
    this.#link = link;
    this.#sideDoor = link.hostname === undefined ? undefined : new SideDoor(this.client, link, link.hostname);
    const ended = new AbortController();
    void link.down.then((reason) => ended.abort(new StowageError('host-unreachable', reason)));
    const signal = AbortSignal.any([ended.signal, this.#stop.signal]);
    try {
      // Who tells much at once may be cut for being read too slowly: what it lacks is asked for over the same link.
      for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
        const began = clock.monotonicMs();
        if (!(await this.#follow(signal, onUp))) break;
        if (clock.monotonicMs() - began > LONGEST_PAUSE_MS) pauseMs = FIRST_PAUSE_MS;
        await sleep(pauseMs, signal);
      }
    } catch (error) {
      throw ended.signal.aborted ? ended.signal.reason : error;
    }
    throw new StowageError('host-unreachable', 'the agent ended its event stream');
  }

  /** Reads one stream of events to its end. Gives whether it had told all that was there; throws where the link may be over. */
  async #follow(signal: AbortSignal, onUp: () => void): Promise<boolean> {
    const turn = await this.#turns.take(signal, this.#isSlow);
    let [isFirst, isCaughtUp] = [true, false];
    try {
      const json = await this.#events.known();
      const stream = await this.client.stream('/v1/events', { method: 'POST', json, signal });
      for await (const line of readLines(stream, SILENCE_MS)) {
        if (isFirst) {
          isFirst = false;
          await this.#events.onReachable(infoOf(line));
          onUp();
          continue;
        }
        const event = agentEventSchema.parse(line);
        if (event.type === 'caught-up') {
          turn.end();
          isCaughtUp = true;
        } else if (event.type !== 'alive') await this.#events.onEvent(event);
        // However much a host tells, others have their turn after each line.
        await new Promise(setImmediate);
      }
    } catch (error) {
      if (signal.aborted || !isCaughtUp || !isCut(error)) throw error;
    } finally {
      turn.end();
      this.#isSlow = turn.isUsedUp;
    }
    return isCaughtUp;
  }
}

/** Whether the other side ended a stream in the middle. */
const isCut = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ECONNRESET';
