import { type ErrorCode, StowageError } from '../../../shared/util/errors.ts';
import { type RunResult, run, wordsOf } from '../../host/run.ts';

/** What ZFS says, and which error that is. */
const ERRORS: readonly [RegExp, ErrorCode][] = [
  [/dataset does not exist|no such pool/i, 'volume-not-found'],
  [/dataset already exists/i, 'volume-exists'],
  [/out of space|no space left/i, 'no-space'],
  [/dataset is busy|pool is busy/i, 'volume-in-use'],
  [/has dependent clones|has children/i, 'volume-has-snapshots'],
];

/** Runs a command of ZFS. Throws what it says, with the code that fits. */
export async function zfs(tool: 'zfs' | 'zpool', ...args: string[]): Promise<RunResult> {
  const result = await run(tool, args);
  if (result.status === 0) return result;
  const words = wordsOf(result);
  const code = ERRORS.find(([pattern]) => pattern.test(words))?.[1] ?? 'tool-failed';
  throw new StowageError(code, `${tool} ${args[0]} failed with status ${result.status}: ${words}`);
}

/** Where a dataset keeps what it holds, and what tells that it was rolled back. */
export const FORMAT = 'stowage:format';
export const CHANGED = 'stowage:changed';
/** Of a dataset that a stream is being received onto. */
export const RECEIVING = 'stowage:receiving';

const PROPERTIES = [
  'guid',
  'type',
  'volsize',
  'used',
  'referenced',
  'available',
  'origin',
  FORMAT,
  CHANGED,
  RECEIVING,
] as const;

/** A dataset or snapshot as `zfs get` tells of it; a property that it does not have is absent. */
export interface Dataset extends Partial<Record<(typeof PROPERTIES)[number], string>> {
  name: string;
}

/** A dataset and all below it, snapshots too, in one call. Understood by every version of ZFS, zfs-fuse among them. */
export async function datasets(name: string): Promise<Dataset[]> {
  const { stdout } = await zfs('zfs', 'get', '-Hpr', '-o', 'name,property,value', PROPERTIES.join(), name);
  return parseDatasets(stdout);
}

/** What `zfs get -Hp -o name,property,value` prints. */
export function parseDatasets(output: string): Dataset[] {
  const found = new Map<string, Dataset>();
  for (const line of output.split('\n')) {
    const [name, property, value] = line.split('\t');
    if (name === undefined || property === undefined || value === undefined) continue;
    const dataset = found.get(name) ?? { name };
    found.set(name, dataset);
    if (value !== '-' && value !== 'none') dataset[property as (typeof PROPERTIES)[number]] = value;
  }
  return [...found.values()];
}
