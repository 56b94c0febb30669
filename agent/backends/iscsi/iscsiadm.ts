import { type ErrorCode, StowageError } from '../../../shared/util/errors.ts';
import { run, wordsOf } from '../../host/run.ts';
import { type Login, withLogin } from './login-record.ts';

/** Exit statuses of iscsiadm that say that it is so already: a session exists, no session or record is found. */
const EXISTS = 15;
const NOTHING_FOUND = 21;
/** The target refused how it was logged in to. */
const REFUSED = 24;
/** Of servers that do not answer, or refuse. */
const AWAY: readonly number[] = [4, 5, 8, 11, 12, REFUSED];

async function iscsiadm(
  args: string[],
  also: readonly number[] = [],
  refused: ErrorCode = 'pool-inaccessible',
): Promise<string> {
  const result = await run('iscsiadm', args, { stallMs: 30_000 });
  if (result.status === 0 || also.includes(result.status)) return result.stdout;
  throw new StowageError(
    result.status === REFUSED ? refused : AWAY.includes(result.status) ? 'pool-inaccessible' : 'tool-failed',
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

/**
 * Logs in to one target. What somebody set for it before stays; else the system does not log in at its next start, the pool does. Throws
 * `secret-refused` where it wants another login.
 */
export async function login(portal: string, iqn: string, how: Login | undefined): Promise<void> {
  const node = ['--mode', 'node', '--portal', portal, '--targetname', iqn];
  const known = await iscsiadm(node, [NOTHING_FOUND]);
  if (known.trim() === '') {
    await iscsiadm([...node, '--op', 'new']);
    await iscsiadm([...node, '--op', 'update', '--name', 'node.startup', '--value', 'manual']);
  }
  const enter = (refused?: ErrorCode): Promise<string> => iscsiadm([...node, '--login'], [EXISTS], refused);
  await (how ? withLogin(iqn, how, () => enter('secret-refused')) : enter());
}

/** Ends all sessions with one target, by whatever name its portals were given. */
export async function logout(iqn: string): Promise<void> {
  await iscsiadm(['--mode', 'node', '--targetname', iqn, '--logout'], [NOTHING_FOUND]);
}
