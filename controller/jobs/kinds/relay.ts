import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { sleep } from '../../../shared/util/clock.ts';
import type { AgentClient } from '../../hosts/agent-client.ts';

/** As many as the source uses side by side. */
const PAIRS = 4;

/**
 * Joins streams of two agents that cannot reach each other. What passes is their TLS: the controller cannot read it.
 * Keeps four pairs ready until it is disposed of.
 */
export class Relay implements Disposable {
  readonly #source: AgentClient;
  readonly #sink: AgentClient;
  readonly #transferId: string;
  readonly #stop = new AbortController();

  constructor(source: AgentClient, sink: AgentClient, transferId: string) {
    this.#source = source;
    this.#sink = sink;
    this.#transferId = transferId;
    for (let pair = 0; pair < PAIRS; pair++) void this.#keepPair();
  }

  async #keepPair(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      try {
        await this.#join();
      } catch {
        // The send fails by itself when no stream is left, and says why; a broken pair is not worth a word.
        await sleep(300);
      }
    }
  }

  async #join(): Promise<void> {
    const { signal } = this.#stop;
    const sink: Duplex = await this.#sink.upgrade(`/v1/transfers/${this.#transferId}/relay`, signal);
    const source: Duplex = await this.#source
      .upgrade(`/v1/sends/${this.#transferId}/relay`, signal)
      .catch((error) => {
        sink.destroy();
        throw error;
      });
    await Promise.all([pipeline(source, sink, { signal }), pipeline(sink, source, { signal })]);
  }

  [Symbol.dispose](): void {
    this.#stop.abort();
  }
}
