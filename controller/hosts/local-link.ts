import { createConnection } from 'node:net';
import type { Duplex } from 'node:stream';
import { StowageError } from '../../shared/util/errors.ts';
import type { Link } from './link.ts';

/** The agent on the controller's own machine, by its Unix socket. */
export class LocalLink implements Link {
  readonly #socket: string;
  readonly down = new Promise<string>(() => undefined);

  constructor(socket: string) {
    this.#socket = socket;
  }

  open(): Promise<Duplex> {
    return new Promise((resolve, reject) => {
      const stream = createConnection(this.#socket);
      stream.once('connect', () => resolve(stream));
      stream.once('error', (error) =>
        reject(
          new StowageError(
            'host-unreachable',
            `the agent does not answer on ${this.#socket}: ${error.message}`,
          ),
        ),
      );
    });
  }

  close(): void {}
}
