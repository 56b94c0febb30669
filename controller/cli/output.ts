import { SingleBar } from 'cli-progress';
import { Option } from 'commander';
import { formatBytes } from '../../shared/util/units.ts';
import { hintWhenInterrupted } from './interrupt.ts';

export const FORMATS = ['table', 'wide', 'json', 'yaml', 'csv', 'name'] as const;
export type Format = (typeof FORMATS)[number];

let format: Format = 'table';
let quiet = false;

/** What every command has. */
export const outputOptions = (): Option[] => [
  new Option('-o, --output <format>', 'how answers are written; csv and name are for lists').choices(FORMATS),
  new Option('--json', "the API's own documents; the same as -o json"),
  new Option('-q, --quiet', 'lists: names only; else nothing but errors'),
];

export function useOutput(options: { output?: Format; json?: boolean; quiet?: boolean }): void {
  format = options.output ?? (options.json ? 'json' : options.quiet ? 'name' : 'table');
  quiet = Boolean(options.quiet);
}

export const outputFormat = (): Format => format;

export const wantsJson = (): boolean => format === 'json';

export function print(text: string): void {
  process.stdout.write(text.endsWith('\n') ? text : `${text}\n`);
}

/** Prints a document for programs, or what `human` makes of it; a remark is left out by `--quiet`. */
export async function show<T>(
  value: T,
  human: (value: T) => string | undefined,
  { isRemark = true } = {},
): Promise<void> {
  if (format === 'json' || format === 'yaml') return print(await documentOf(value, format));
  const text = quiet && isRemark ? '' : human(value);
  if (text) print(text);
}

export async function documentOf(value: unknown, kind: 'json' | 'yaml'): Promise<string> {
  if (kind === 'json') return escaped(JSON.stringify(value, null, 2));
  // Read only by those who ask for it: a command is over in a moment.
  const { stringify } = (await import('yaml')).default;
  const text = stringify(value);
  // Only what is quoted can be escaped.
  return escaped(text) === text ? text : escaped(stringify(value, { defaultStringType: 'QUOTE_DOUBLE' }));
}

/** What a terminal would obey and JSON leaves as it is. */
const escaped = (text: string): string =>
  text.replace(
    /[\u007f-\u009f\p{Cf}]/gu,
    // Half of a pair at a time, as JSON writes them.
    (character) =>
      [...Array(character.length).keys()]
        .map((at) => `\\u${character.charCodeAt(at).toString(16).padStart(4, '0')}`)
        .join(''),
  );

/** Names come from other people's disks: nothing in them may command the terminal, or not be seen. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is replaced
  return text.replace(/[\u0000-\u001f\u007f-\u009f\p{Cf}]/gu, '?');
}

/** Tells of what is odd about what was done all the same. */
export function warn({ warnings = [] }: { warnings?: readonly string[] }): void {
  for (const each of warnings) process.stderr.write(`warning: ${printable(each)}\n`);
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

// The Swedish form is that of ISO 8601.
const localTime = new Intl.DateTimeFormat('sv-SE', { dateStyle: 'short', timeStyle: 'medium' });
const zone = new Intl.DateTimeFormat('en', { timeZoneName: 'longOffset' });

/** Local time with its offset: `2026-11-24 16:15:30 +01:00`. */
export function time(ms: number): string {
  const name = zone.formatToParts(ms).find(({ type }) => type === 'timeZoneName')?.value ?? '';
  return `${localTime.format(ms)} ${name === 'GMT' ? '+00:00' : name.replace('GMT', '')}`;
}

/** A progress bar on standard error for people; nothing for programs and logs. */
export class Progress {
  readonly #bar: SingleBar | undefined;
  #started = false;
  readonly #dropHint: () => void;

  /** `hint`: what to know when it is interrupted. */
  constructor(label: string, hint: string) {
    this.#dropHint = hintWhenInterrupted(hint, () => this.stop());
    if (wantsJson() || quiet || !process.stderr.isTTY) return;
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
    this.#dropHint();
    if (this.#started) this.#bar?.stop();
    this.#started = false;
  }
}
