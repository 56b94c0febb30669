import type { Command } from 'commander';
import stringWidth from 'string-width';
import { StowageError } from '../../shared/util/errors.ts';
import { formatBytes } from '../../shared/util/units.ts';
import { openEvents } from './client.ts';

import { documentOf, outputFormat, print, printable, time } from './output.ts';

type Value = string | number | null | undefined;

/** One column of a list. */
export interface Column<T> {
  name: string;
  /** For programs, and what is sorted by: bytes, ms since the epoch. */
  value(row: T): Value;
  /** For people; the value itself when absent. */
  text?(row: T): string;
  /** Shown only by `-o wide`, and by `--columns`. */
  wide?: boolean;
}

/** A kind of list: its columns, and what a row is called in other commands. */
export interface Listing<T> {
  columns: readonly Column<T>[];
  name(row: T): string;
}

export interface ListOptions {
  columns?: string;
  sort?: string;
  headers?: boolean;
  watch?: boolean;
}

export const bytesColumn = <T>(name: string, value: (row: T) => number): Column<T> => ({
  name,
  value,
  text: (row) => formatBytes(value(row)),
});

export const timeColumn = <T>(name: string, value: (row: T) => number | undefined): Column<T> => ({
  name,
  value,
  text(row) {
    const ms = value(row);
    return ms === undefined ? 'never' : time(ms);
  },
});

/** Gives a command that lists things their options; `followed`: the controller tells when one of them changes. */
export function listOptions(command: Command, { followed = false } = {}): Command {
  command
    .option('--columns <names>', 'which columns, separated by commas')
    .option('--sort <column>', 'sort by a column; -COLUMN: the largest first')
    .option('--no-headers', 'tables and csv without their first line');
  return followed ? command.option('--watch', 'list again whenever something changes') : command;
}

/** The columns that are called so. Throws `invalid-argument`, naming those that there are. */
function chosen<T>(columns: readonly Column<T>[], names: string): Column<T>[] {
  return names.split(',').map((name) => {
    const found = columns.find((column) => column.name.toLowerCase() === name.trim().toLowerCase());
    if (found) return found;
    const all = columns.map((column) => column.name.toLowerCase()).join(', ');
    throw new StowageError('invalid-argument', `there is no column '${name}'; there are: ${all}`);
  });
}

function compare(left: Value, right: Value): number {
  if (typeof left === 'number' && typeof right === 'number') return left - right;
  return String(left ?? '') < String(right ?? '') ? -1 : Number(String(left ?? '') !== String(right ?? ''));
}

/** Rows as a table without lines, so that it can be cut and copied. */
export function table(head: readonly string[], rows: readonly (readonly Value[])[]): string {
  const cells = [head, ...rows].map((row) => row.map((cell) => printable(String(cell ?? ''))));
  const widths = head.map(() => 0);
  for (const row of cells)
    for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column]!, stringWidth(cell));
  const padded = (cell: string, column: number): string =>
    cell + ' '.repeat(widths[column]! - stringWidth(cell));
  return cells.map((row) => row.map(padded).join('  ').trimEnd()).join('\n');
}

const forProgram = (value: Value): string | number =>
  typeof value === 'number' ? value : printable(value ?? '');

async function textOf<T>(listing: Listing<T>, all: readonly T[], options: ListOptions): Promise<string> {
  const { columns } = listing;
  const shown =
    options.columns === undefined
      ? columns.filter(({ wide }) => !wide || outputFormat() === 'wide')
      : chosen(columns, options.columns);
  let rows = all;
  if (options.sort !== undefined) {
    const [by] = chosen(columns, options.sort.replace(/^-/, ''));
    const sign = options.sort.startsWith('-') ? -1 : 1;
    rows = [...all].sort((left, right) => sign * compare(by!.value(left), by!.value(right)));
  }
  const format = outputFormat();
  switch (format) {
    case 'json':
    case 'yaml':
      return documentOf(rows, format);
    case 'name':
      return rows.map((row) => `${printable(listing.name(row))}\n`).join('');
    case 'csv': {
      const { stringify } = await import('csv-stringify/sync');
      const head = shown.map(({ name }) => name.toLowerCase());
      // What a spreadsheet would take for a formula stays text.
      const lines = rows.map((row) => shown.map(({ value }) => forProgram(value(row))));
      return stringify(options.headers === false ? lines : [head, ...lines], {
        escape_formulas: true,
      });
    }
    default: {
      const text = table(
        shown.map(({ name }) => name),
        rows.map((row) => shown.map((column) => column.text?.(row) ?? column.value(row))),
      );
      return options.headers === false ? text.slice(text.indexOf('\n') + 1 || text.length) : text;
    }
  }
}

/** Prints a list as asked for; with `--watch` again after each change, until it is interrupted. */
export async function showList<T>(
  listing: Listing<T>,
  fetch: () => Promise<readonly T[]>,
  options: ListOptions,
): Promise<void> {
  const once = async (): Promise<void> => {
    const text = await textOf(listing, await fetch(), options);
    if (options.watch && process.stdout.isTTY) process.stdout.write('\u001b[2J\u001b[H');
    if (text !== '') print(text);
  };
  if (!options.watch) return once();
  for await (const _change of changes()) await once();
}

/** One at the beginning, when nothing more is missed, then at most one a second, however much changes. Throws `host-unreachable` when the controller goes away, and what it refuses them with. */
async function* changes(): AsyncGenerator<void> {
  const socket = await openEvents();
  let changed = Promise.withResolvers<void>();
  changed.resolve();
  socket.on('message', () => changed.resolve());
  socket.on('error', (error) => changed.reject(gone(error.message)));
  socket.on('close', () => changed.reject(gone('it hung up')));
  for (;;) {
    await changed.promise;
    changed = Promise.withResolvers<void>();
    changed.promise.catch(() => undefined);
    if (socket.readyState === socket.CLOSED) throw gone('it hung up');
    yield;
    await new Promise((done) => setTimeout(done, 1000));
  }
}

const gone = (why: string): StowageError =>
  new StowageError('host-unreachable', `the controller tells of no changes any more: ${why}`);
