import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, existsSync, globSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after } from 'node:test';
import { until } from './controller.ts';

const [binaries] = globSync('/usr/lib/postgresql/*/bin').sort().reverse();
const isRoot = process.getuid!() === 0;

/** PostgreSQL refuses to run as root: then it runs as the user of Debian's package. */
function asItsUser(command: string, args: string[]): [string, string[]] {
  const path = join(binaries!, command);
  if (!isRoot) return [path, args];
  return ['setpriv', ['--reuid', 'postgres', '--regid', 'postgres', '--clear-groups', '--', path, ...args]];
}

let running: Promise<string> | undefined;
let databases = 0;
let stop = async (): Promise<void> => undefined;
/** Ends the server that was started, if one was; a test file does so by itself. */
export const stopPostgres = (): Promise<void> => stop();
// With the file, not with the test that needed it first.
after(stopPostgres);

/** Starts a server in a directory of its own, with a collation that is not that of bytes. Gives where its socket is. */
async function start(): Promise<string> {
  const directory = mkdtempSync('/tmp/stowage-postgres-');
  const data = join(directory, 'data');
  mkdirSync(data, { mode: 0o700 });
  if (isRoot) {
    const uid = Number(execFileSync('id', ['-u', 'postgres'], { encoding: 'utf8' }));
    for (const path of [directory, data]) chownSync(path, uid, uid);
  }
  const init = ['-D', data, '-U', 'postgres', '--auth=trust', '--no-sync', '--encoding=UTF8'];
  const locale = ['--locale-provider=icu', '--icu-locale=en-US', '--locale=C.UTF-8'];
  const [initCommand, initArgs] = asItsUser('initdb', [...init, ...locale]);
  execFileSync(initCommand, initArgs, { stdio: ['ignore', 'ignore', 'pipe'], cwd: directory });
  const settings = ['fsync=off', 'max_connections=200', 'log_min_messages=fatal'].flatMap((each) => [
    '-c',
    each,
  ]);
  const [command, args] = asItsUser('postgres', ['-D', data, '-k', directory, '-h', '', ...settings]);
  const server: ChildProcess = spawn(command, args, {
    stdio: ['ignore', 'ignore', 'inherit'],
    cwd: directory,
  });
  stop = async () => {
    const ended = once(server, 'exit');
    server.kill('SIGINT');
    await ended;
    rmSync(directory, { recursive: true, force: true });
  };
  await until('PostgreSQL answers', () => {
    if (server.exitCode !== null) throw new Error(`PostgreSQL ended with status ${server.exitCode}`);
    return existsSync(join(directory, '.s.PGSQL.5432')) && isReady(directory);
  });
  return directory;
}

function isReady(directory: string): boolean {
  try {
    execFileSync(join(binaries!, 'pg_isready'), ['-h', directory, '-U', 'postgres'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** The URL of a new, empty database. The server is started with the first, and ends with the test file. */
export async function newPostgresDatabase(): Promise<string> {
  running ??= start();
  const directory = await running;
  const name = `stowage${++databases}`;
  execFileSync(join(binaries!, 'createdb'), ['-h', directory, '-U', 'postgres', name]);
  return `postgres://postgres@/${name}?host=${encodeURIComponent(directory)}`;
}
