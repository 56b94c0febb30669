import { constants } from 'node:os';
import { StowageError } from '../../shared/util/errors.ts';

interface Running {
  hint: string;
  stop: () => void;
}

/** What runs now, the outermost first. */
const running = new Set<Running>();

/**
 * Says what to know when the command is interrupted, until the function that it gives is called. `stop` runs before it is said:
 * a progress bar has changed the terminal. Of several hints the first one is said.
 */
export function hintWhenInterrupted(hint: string, stop: () => void = () => undefined): () => void {
  const entry = { hint, stop };
  running.add(entry);
  return () => running.delete(entry);
}

/** What undoes something first when the command is interrupted. */
const undoing = new Set<AbortController>();

/**
 * Runs what must undo something when the command is interrupted: its signal is aborted then, and the command ends once `work` has. A second
 * interruption ends it at once.
 */
export async function undoneWhenInterrupted<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const interruption = new AbortController();
  undoing.add(interruption);
  try {
    return await work(interruption.signal);
  } finally {
    undoing.delete(interruption);
  }
}

/** For SIGINT, SIGTERM and SIGHUP: ends the command. */
export function endInterrupted(signal: NodeJS.Signals): void {
  const waits = [...undoing].filter(({ signal: { aborted } }) => !aborted);
  for (const interruption of waits)
    interruption.abort(new StowageError('cancelled', 'the command was interrupted'));
  if (waits.length > 0) return;
  const [first] = running;
  for (const { stop } of [...running]) stop();
  if (first) process.stderr.write(`\nstowage: ${first.hint}\n`);
  process.exit(128 + constants.signals[signal]);
}
