import { z } from 'zod';
import { StowageError } from '../../../shared/util/errors.ts';
import { type RunResult, run, wordsOf } from '../../host/run.ts';

/** What LVM says, and which error that is. */
const ERRORS = [
  [/insufficient free space|has insufficient free extents/i, 'no-space'],
  [/already exists in volume group/i, 'volume-exists'],
  [/in use\.|contains a filesystem in use|with \d+ open logical volume/i, 'volume-in-use'],
  [/failed to find logical volume|snapshot origin LV \S+ not found/i, 'volume-not-found'],
  [/volume group "[^"]*" not found|cannot process volume group/i, 'pool-inaccessible'],
] as const;

/** Runs one command of LVM. Throws what it says, with the code that fits. */
export async function lvm(command: string, args: string[]): Promise<RunResult> {
  // Descriptors that the agent has open are closed by the kernel; LVM must not complain of them.
  const result = await run(command, args, { env: { LVM_SUPPRESS_FD_WARNINGS: '1' } });
  if (result.status === 0) return result;
  const words = wordsOf(result);
  const code = ERRORS.find(([pattern]) => pattern.test(words))?.[1] ?? 'tool-failed';
  throw new StowageError(code, `${command} failed with status ${result.status}: ${words}`);
}

/** Runs a reporting command and gives its rows: each field a string, sizes in bytes. */
export async function report(
  command: 'vgs' | 'lvs' | 'pvs',
  fields: readonly string[],
  args: readonly string[],
): Promise<Record<string, string>[]> {
  const { stdout } = await lvm(command, [
    '--reportformat',
    'json',
    '--units',
    'b',
    '--nosuffix',
    '--options',
    fields.join(','),
    ...args,
  ]);
  const kind = args.includes('--segments') ? 'seg' : command.slice(0, 2);
  const schema = z.object({
    report: z.array(z.object({ [kind]: z.array(z.record(z.string(), z.string())) })),
  });
  return schema.parse(JSON.parse(stdout)).report.flatMap((part) => part[kind] ?? []);
}
