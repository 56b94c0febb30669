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

/** For SIGINT: ends the command. */
export function endInterrupted(): never {
  const [first] = running;
  for (const { stop } of [...running]) stop();
  if (first) process.stderr.write(`\nstowage: ${first.hint}\n`);
  process.exit(130);
}
