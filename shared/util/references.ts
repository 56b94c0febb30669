import { StowageError } from './errors.ts';

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
const FORBIDDEN = /[\u0000-\u001f\u007f/\u202a-\u202e\u2066-\u2069]/u;

/** Why a name is refused, if it is. */
export function nameProblem(name: string): string | undefined {
  if (name === '') return 'it is empty';
  if (Buffer.byteLength(name) > 255) return 'it is longer than 255 bytes';
  if (FORBIDDEN.test(name)) return "it holds '/' or a control character";
  if (name.startsWith('-')) return 'it starts with a dash';
  if (name.startsWith('.')) return 'it starts with a dot';
  return undefined;
}

/** Throws `invalid-name` unless `name` is usable as one path component. */
export function checkName(kind: string, name: string): string {
  const problem = nameProblem(name);
  if (problem)
    throw new StowageError(
      'invalid-name',
      `${kind} name ${JSON.stringify(name.slice(0, 60))} is refused: ${problem}`,
    );
  return name;
}

/** The parts of `host/pool/volume`; as many as given. */
export function splitReference(reference: string): string[] {
  const parts = reference.split('/');
  const kinds = ['host', 'pool', 'volume'];
  if (parts.length > 3)
    throw new StowageError('invalid-name', `'${reference.slice(0, 80)}' is not HOST/POOL/VOLUME`);
  return parts.map((part, index) => checkName(kinds[index] ?? 'name', part));
}
