import type { AttentionItem } from '../../shared/protocol/api.ts';
import { cut } from '../../shared/util/errors.ts';

const LONGEST_REASON = 300;

/** That something began to want attention, became worse, or is over. */
export interface Notice {
  event: 'began' | 'worse' | 'over';
  item: AttentionItem;
}

/** What goes to people at once. Whoever gets the same id twice has it already. */
export interface Notices {
  id: string;
  /** When it was written, ms since the epoch. */
  at: number;
  /** Where the controller's page is, if that is known. */
  url?: string;
  notices: Notice[];
}

/** A way to people. */
export interface Channel {
  /** The same over restarts, for what is to be sent yet. */
  name: string;
  /** Settles when the other side has taken it. Throws what to put into the log, without any secret. */
  send(notices: Notices, signal: AbortSignal): Promise<void>;
}

/** Why something was not taken, for a log. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return 'it failed';
  // fetch says only that it failed.
  const words = error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message;
  return cut(words, LONGEST_REASON);
}

const WORDS = { began: '', worse: 'worse: ', over: 'over: ' };

/** `critical: host h1 does not answer`. */
export const headline = ({ event, item: { severity, summary } }: Notice): string =>
  event === 'over' ? `over: ${summary}` : `${WORDS[event]}${severity}: ${summary}`;
