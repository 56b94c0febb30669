import { SingleBar } from 'cli-progress';
import Table from 'cli-table3';
import { formatBytes } from '../../shared/util/units.ts';

/** Whether `--json` was given: programs get the API's own documents. */
let json = false;

export function useJson(): void {
  json = true;
}

export const wantsJson = (): boolean => json;

/** Prints a document for programs, or what `human` makes of it. */
export function show<T>(value: T, human: (value: T) => string | undefined): void {
  const text = json ? JSON.stringify(value, null, 2) : human(value);
  if (text) process.stdout.write(`${text}\n`);
}

/** A plain table: no lines, so that it can be cut and copied. */
export function table(head: string[], rows: (string | number)[][]): string {
  const none = {
    top: '',
    'top-mid': '',
    'top-left': '',
    'top-right': '',
    bottom: '',
    'bottom-mid': '',
    'bottom-left': '',
    'bottom-right': '',
    left: '',
    'left-mid': '',
    mid: '',
    'mid-mid': '',
    right: '',
    'right-mid': '',
    middle: '  ',
  };
  const out = new Table({
    head,
    chars: none,
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [] },
  });
  out.push(...rows.map((row) => row.map((cell) => printable(String(cell)))));
  return out
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}

/** Names come from other people's disks: nothing in them may command the terminal. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is replaced
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, '?');
}

export function fields(rows: [string, string | number | null | undefined][]): string {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows
    .flatMap(([name, value]) =>
      value === null || value === undefined || value === ''
        ? []
        : [`${name.padEnd(width)}  ${printable(String(value))}`],
    )
    .join('\n');
}

export const time = (ms: number): string => new Date(ms).toISOString().replace('T', ' ').slice(0, 19);

/** A progress bar on standard error for people; nothing for programs and logs. */
export class Progress {
  readonly #bar: SingleBar | undefined;
  #started = false;

  constructor(label: string) {
    if (json || !process.stderr.isTTY) return;
    this.#bar = new SingleBar({
      format: `${printable(label)} [{bar}] {percentage}%  {done} of {all}  {eta_formatted} left`,
      stream: process.stderr,
      clearOnComplete: false,
      hideCursor: true,
    });
  }

  update(doneBytes: number, totalBytes: number): void {
    if (!this.#bar || totalBytes <= 0) return;
    const payload = { done: formatBytes(doneBytes), all: formatBytes(totalBytes) };
    if (this.#started) this.#bar.update(doneBytes, payload);
    else this.#bar.start(totalBytes, doneBytes, payload);
    this.#started = true;
  }

  stop(): void {
    if (this.#started) this.#bar?.stop();
  }
}
