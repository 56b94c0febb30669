import type { Duplex } from 'node:stream';

/** The road to one agent. It does one thing: a fresh byte stream to the agent's HTTP server, as often as asked. */
export interface Link {
  /** Throws `host-unreachable` when the link is down. */
  open(): Promise<Duplex>;
  /** Where the host may be reached by TCP too, for many bytes; absent where the link itself is the best way. */
  readonly hostname?: string;
  /** Settles, with the reason, when the link is down for good; a new one must be made then. */
  readonly down: Promise<string>;
  close(): void;
}
