import { readFileSync } from 'node:fs';
import { type Document, isNode, LineCounter, parseDocument } from 'yaml';
import type { z } from 'zod';
import { StowageError } from '../../shared/util/errors.ts';
import { wordsOf } from '../../shared/util/input.ts';
import { type Configuration, configurationSchema } from './schema.ts';

const LARGEST_BYTES = 1 << 20;
const MOST_ERRORS = 20;

/**
 * Reads a configuration file, YAML. Throws `invalid-argument` with a line for each thing that is wrong with it: the file, line and
 * column, the key, and what belongs there. What is in it is never quoted: it may be a secret that was put into the wrong place.
 */
export function readConfiguration(path: string): Configuration {
  const text = contentOf(path);
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const at = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${path}:${line}:${col}`;
  };
  if (document.errors.length > 0)
    throw invalid(document.errors.map(({ pos, code }) => `${at(pos[0])}: ${wordsOfYaml(code)}`));
  const parsed = configurationSchema.safeParse(plain(document, path) ?? {}, {
    error: wordsOf,
    reportInput: true,
  });
  if (parsed.success) return parsed.data;
  const wrong = parsed.error.issues
    .flatMap(placesOf)
    .map(({ keys, message }) => ({ offset: offsetOf(document, keys), key: keys.join('.'), message }))
    .sort((a, b) => a.offset - b.offset);
  throw invalid(wrong.map(({ offset, key, message }) => `${at(offset)}: ${key && `${key}: `}${message}`));
}

function plain(document: Document, path: string): unknown {
  try {
    return document.toJS();
  } catch {
    throw invalid([`${path}: an alias (*NAME) refers to nothing, or makes too much of little`]);
  }
}

function contentOf(path: string): string {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new StowageError(
      'invalid-argument',
      `the configuration cannot be read: ${(error as Error).message}`,
      {
        cause: error,
      },
    );
  }
  if (text.length > LARGEST_BYTES)
    throw new StowageError('invalid-argument', `${path} is larger than ${LARGEST_BYTES} bytes`);
  return text;
}

function invalid(errors: string[]): StowageError {
  const more = errors.length - MOST_ERRORS;
  const shown = more > 0 ? [...errors.slice(0, MOST_ERRORS), `and ${more} more`] : errors;
  return new StowageError('invalid-argument', `the configuration is not valid:\n${shown.join('\n')}`);
}

/** The library's own words quote the text: `BAD_INDENT` becomes `bad indent`. */
const wordsOfYaml = (code: string): string => `this is no YAML: ${code.toLowerCase().replaceAll('_', ' ')}`;

/** Where an issue is, and what it says; a key that is not known is at itself, not at what it is in. */
function placesOf(issue: z.core.$ZodIssue): { keys: PropertyKey[]; message: string }[] {
  if (issue.code !== 'unrecognized_keys') return [{ keys: issue.path, message: issue.message }];
  return issue.keys.map((key) => ({ keys: [...issue.path, key], message: 'there is no such key' }));
}

/** Where the key of a value begins in the text; of what is missing, the key of what it is missing in. */
function offsetOf(document: Document, keys: readonly PropertyKey[]): number {
  for (let length = keys.length; length > 0; length--) {
    const above = document.getIn(keys.slice(0, length - 1), true) ?? document.contents;
    const key = keys[length - 1];
    const items = (above as { items?: unknown[] } | undefined)?.items ?? [];
    const item = typeof key === 'number' ? items[key] : items.find((pair) => nameOf(pair) === key);
    const node = isNode(item) ? item : (item as { key?: unknown } | undefined)?.key;
    if (isNode(node) && node.range) return node.range[0];
  }
  return document.contents?.range?.[0] ?? 0;
}

function nameOf(pair: unknown): unknown {
  const { key } = pair as { key?: unknown };
  return isNode(key) && 'value' in key ? key.value : key;
}
