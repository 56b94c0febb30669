import { StowageError } from '../../../shared/util/errors.ts';
import { run, wordsOf } from '../../host/run.ts';

/** Exit statuses of iscsiadm that say that it is so already: a session exists, no session or record is found. */
const EXISTS = 15;
const NOTHING_FOUND = 21;
/** Of servers that do not answer, or refuse. */
const AWAY: readonly number[] = [4, 5, 8, 11, 12, 24];

async function iscsiadm(args: string[], also: readonly number[] = []): Promise<string> {
  const result = await run('iscsiadm', args, { stallMs: 30_000 });
  if (result.status === 0 || also.includes(result.status)) return result.stdout;
  throw new StowageError(
    AWAY.includes(result.status) ? 'pool-inaccessible' : 'tool-failed',
    `iscsiadm failed with status ${result.status}: ${wordsOf(result)}`,
  );
}

/** The names of the targets that a portal has. Nothing is kept of the search. */
export async function discover(portal: string): Promise<string[]> {
  const mode = ['--mode', 'discovery', '--type', 'sendtargets', '--op', 'nonpersistent'];
  const output = await iscsiadm([...mode, '--portal', portal]);
  // ADDRESS:PORT,TAG NAME
  const names = output.split('\n').flatMap((line) => /^\S+,-?\d+ (\S+)/.exec(line)?.[1] ?? []);
  return [...new Set(names)];
}

const node = (portal: string, iqn: string): string[] => [
  '--mode',
  'node',
  '--portal',
  portal,
  '--targetname',
  iqn,
];

/** Logs in to one target; the system does not by itself at its next start, as the pool does. */
export async function login(portal: string, iqn: string): Promise<void> {
  await iscsiadm([...node(portal, iqn), '--op', 'new']);
  await iscsiadm([...node(portal, iqn), '--op', 'update', '--name', 'node.startup', '--value', 'manual']);
  await iscsiadm([...node(portal, iqn), '--login'], [EXISTS]);
}

export async function logout(portal: string, iqn: string): Promise<void> {
  await iscsiadm([...node(portal, iqn), '--logout'], [NOTHING_FOUND]);
}
