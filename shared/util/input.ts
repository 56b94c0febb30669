import type { z } from 'zod';
import { StowageError } from './errors.ts';

type Issue = z.core.$ZodRawIssue;

const KINDS: Record<string, string> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object',
  record: 'an object',
};

/** What is counted of a value that has a length. */
const UNITS: Record<string, string> = { string: 'character', array: 'entry' };
const PLURALS: Record<string, string> = { character: 'characters', entry: 'entries' };

function boundOf(which: string, bound: number | bigint, origin: string): string {
  const unit = UNITS[origin];
  if (unit === undefined) return `must be ${which} ${bound}`;
  return `must have ${which} ${bound} ${Number(bound) === 1 ? unit : PLURALS[unit]}`;
}

/** What a value must be, in words that people use; undefined where the schema's own words are as good. */
export function wordsOf(issue: Issue): string | undefined {
  switch (issue.code) {
    case 'invalid_type':
      return issue.input === undefined ? 'is missing' : `must be ${KINDS[issue.expected] ?? issue.expected}`;
    case 'invalid_value':
      return issue.input === undefined ? 'is missing' : `must be ${oneOf(issue.values)}`;
    case 'too_small':
      if (issue.inclusive === false) return `must be more than ${issue.minimum}`;
      return boundOf('at least', issue.minimum, issue.origin);
    case 'too_big':
      return boundOf('at most', issue.maximum, issue.origin);
    case 'invalid_format':
      return issue.format === 'uuid' || issue.format === 'guid' ? 'must be a UUID' : undefined;
    case 'not_multiple_of':
      return 'must be a whole number';
    case 'unrecognized_keys':
      return `has no ${issue.keys.join(', ')}`;
    case 'invalid_union':
      return 'has none of the forms that it can have';
    default:
      return undefined;
  }
}

function hasNul(value: unknown): boolean {
  if (typeof value === 'string') return value.includes('\0');
  if (typeof value !== 'object' || value === null) return false;
  return Object.entries(value).some(([name, each]) => hasNul(name) || hasNul(each));
}

function oneOf(values: readonly unknown[]): string {
  const all = values.map(String);
  return all.length === 1 ? all[0]! : `${all.slice(0, -1).join(', ')} or ${all.at(-1)}`;
}

/**
 * What a schema makes of input. Throws `invalid-argument`, or `code`, with a sentence for each of the first faults that names
 * the field and says what it must be.
 */
export function parseInput<S extends z.ZodType>(
  schema: S,
  input: unknown,
  code: 'invalid-argument' | 'stream-corrupt' = 'invalid-argument',
): z.output<S> {
  // No name can have it, and PostgreSQL no text.
  if (hasNul(input)) throw new StowageError(code, 'a text holds the character NUL');
  const { data, error } = schema.safeParse(input, { error: wordsOf });
  if (!error) return data;
  const sentences = error.issues.slice(0, 5).map(({ path, message }) => {
    const field = path.map(String).join('.');
    // A sentence of a schema's own says what it is about.
    return field === ''
      ? message
      : `${field}: ${message.replace(/^Invalid string: .*$/, 'has a form that is not allowed')}`;
  });
  throw new StowageError(code, sentences.join('; '));
}
