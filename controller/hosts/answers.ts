import type { IncomingMessage } from 'node:http';
import { clock, sleep, type Timer } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { parseJson } from '../../shared/util/json.ts';

/** A document that an agent answers is never larger, nor is one of its lines. */
const MOST_BYTES = 32 << 20;
const MOST_LINE_CHARACTERS = 4 << 20;
const MOST_CHARACTERS_A_SECOND = 16 << 20;
/** A piece costs memory beside its characters. */
const MOST_PIECES = 1000;
/** A line that an answer begins with comes within this time. */
const FIRST_LINE_MS = 60_000;
/** A document that was begun is ended within this time. */
const DOCUMENT_MS = 60_000;

const lies = (what: string): StowageError => new StowageError('stream-corrupt', `the agent sent ${what}`);

/** The whole text of an answer. Throws `stream-corrupt` for one that is too large, `stream-cut` for one that does not end. */
export async function readText(stream: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let bytes = 0;
  const timer = clock.after(
    DOCUMENT_MS,
    () =>
      stream.destroy(new StowageError('stream-cut', `its answer did not end within ${DOCUMENT_MS / 1000} s`)),
    false,
  );
  try {
    for await (const part of stream as AsyncIterable<Buffer>) {
      bytes += part.length;
      if (bytes > MOST_BYTES) throw lies(`an answer of more than ${MOST_BYTES >> 20} MiB`);
      parts.push(part);
    }
  } finally {
    timer.stop();
  }
  return Buffer.concat(parts).toString('utf8');
}

/**
 * The JSON lines of an answer, as they come. Throws `stream-cut` after `silenceMs` without any, `stream-corrupt` for a line
 * that is too long or no JSON.
 */
export async function* readLines(stream: IncomingMessage, silenceMs?: number): AsyncGenerator<unknown> {
  // What has come of a line that has not ended, in pieces: a line that comes byte by byte is not put together each time.
  let pieces: string[] = [];
  let length = 0;
  let timer: Timer | undefined;
  let [second, characters] = [clock.monotonicMs(), 0];
  /** However much is sent, no more is read in a second: one sender leaves the others their turn. */
  const pace = async (more: number): Promise<void> => {
    const now = clock.monotonicMs();
    if (now - second > 1000) [second, characters] = [now, 0];
    characters += more;
    if (characters > MOST_CHARACTERS_A_SECOND) await sleep(Math.max(0, second + 1000 - now));
  };
  const watch = (): void => {
    timer?.stop();
    if (silenceMs === undefined) return;
    timer = clock.after(silenceMs, () =>
      stream.destroy(new StowageError('stream-cut', `the agent was silent for ${silenceMs / 1000} s`)),
    );
  };
  watch();
  try {
    stream.setEncoding('utf8');
    for await (const text of stream as AsyncIterable<string>) {
      await pace(text.length);
      watch();
      length += text.length;
      pieces.push(text);
      if (!text.includes('\n')) {
        if (length > MOST_LINE_CHARACTERS) throw lies('a line that does not end');
        if (pieces.length > MOST_PIECES) pieces = [pieces.join('')];
        continue;
      }
      const lines = pieces.join('').split('\n');
      pieces = [lines.pop()!];
      length = pieces[0]!.length;
      for (const line of lines) {
        if (line === '') continue;
        if (line.length > MOST_LINE_CHARACTERS) throw lies('a line that is too long');
        const value = parseJson(line);
        if (value === undefined) throw lies('a line that is no JSON');
        yield value;
      }
    }
  } finally {
    timer?.stop();
  }
}

/**
 * The first JSON line of an answer that stays open as long as its request does; `more` gets those that follow. Throws
 * `stream-cut` when it does not come.
 */
export async function readFirstLine(
  stream: IncomingMessage,
  more: (line: unknown) => void,
): Promise<unknown> {
  const lines = readLines(stream);
  const timer = clock.after(FIRST_LINE_MS, () =>
    stream.destroy(new StowageError('stream-cut', 'no first line')),
  );
  const first = await lines.next().catch(() => ({ done: true, value: undefined }));
  timer.stop();
  if (first.done) throw new StowageError('stream-cut', 'the agent ended its answer early');
  const rest = async (): Promise<void> => {
    for await (const line of lines) more(line);
  };
  void rest().catch(() => stream.destroy());
  return first.value;
}
