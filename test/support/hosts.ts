import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createConnection, createServer } from 'node:net';
import { userInfo } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isRoot } from './scratch.ts';

const SSHD = '/usr/sbin/sshd';
const NODE_DIRECTORY = join(process.cwd(), 'node_modules/.bin');

/** A host of the tests: a real sshd, in a network namespace of its own when root, else on a loopback port. */
export interface TestHost extends AsyncDisposable {
  readonly name: string;
  readonly user: string;
  readonly address: string;
  readonly port: number;
  /** Private key that the host lets in. */
  readonly identity: string;
  readonly fingerprint: string;
  /** Everything of the host lies here; the agent in `agent/`. */
  readonly directory: string;
  /** Pulls the cable; only with namespaces. */
  cut(): void;
  heal(): void;
  /** Makes another host unreachable from here, while both stay reachable for the controller. */
  blind(other: TestHost): void;
  /** Process number of the agent; undefined when none runs. */
  agentPid(): number | undefined;
  killAgent(): void;
  /** Gives the host another host key, as a reinstalled or impersonated one has. */
  changeHostKey(): Promise<void>;
  /** Ends sshd and its sessions, and starts it again; the agent works on. */
  stop(): Promise<void>;
  start(): Promise<void>;
  /** Runs a command in the host's network. */
  command(args: string[]): string[];
}

let counter = 0;
let bridged = false;

const ip = (...args: string[]): void => void execFileSync('ip', args, { stdio: 'pipe' });

/** The bridge that joins the hosts of this test process; it lies in the namespace that `npm test` made. */
function ensureBridge(): void {
  if (bridged) return;
  bridged = true;
  // Another test file, a process of its own, may be at the same: each step may have been done already.
  try {
    ip('link', 'add', 'stowage-br', 'type', 'bridge');
  } catch (error) {
    if (!String((error as { stderr?: Buffer }).stderr).includes('File exists')) throw error;
  }
  ip('addr', 'replace', '10.99.0.1/16', 'dev', 'stowage-br');
  ip('link', 'set', 'stowage-br', 'up');
}

/** A loopback port that nobody uses now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

async function answers(address: string, port: number): Promise<void> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const ok = await new Promise<boolean>((resolve) => {
      const socket = createConnection({ host: address, port });
      socket.once('data', () => {
        socket.destroy();
        resolve(true);
      });
      socket.once('error', () => resolve(false));
    });
    if (ok) return;
    await sleep(50);
  }
  throw new Error(`sshd does not answer on ${address}:${port}`);
}

export interface HostOptions {
  /** Give sessions a PATH without Node 24, so that the controller must bring one. */
  withoutNode?: boolean;
  /** Let in a user who is not root and may use sudo; only as root, with namespaces. */
  operator?: boolean;
}

const OPERATOR = 'stowage-operator';

/**
 * Shell commands that give a mount namespace a user of its own, who may use sudo, and an empty place for the agent that
 * sudo starts. The machine's own files stay as they are.
 */
function makeOperator(directory: string): string {
  const file = (name: string): string => join(directory, name);
  const home = file('home');
  mkdirSync(home);
  chownSync(home, 4242, 4242);
  // sshd reads the user's keys with the rights of the user.
  for (const path of [directory, dirname(directory)]) chmodSync(path, 0o755);
  mkdirSync(file('sudoers.d'), { mode: 0o750 });
  const sudoers = `${OPERATOR} ALL=(ALL) NOPASSWD: ALL\n`;
  writeFileSync(file('sudoers.d/operator'), sudoers, { mode: 0o440 });
  const passwd = readFileSync('/etc/passwd', 'utf8');
  writeFileSync(file('passwd'), `${passwd}${OPERATOR}:x:4242:4242::${home}:/bin/sh\n`);
  const shadow = readFileSync('/etc/shadow', 'utf8');
  writeFileSync(file('shadow'), `${shadow}${OPERATOR}:*:19000:0:99999:7:::\n`, { mode: 0o600 });
  return [
    `mount --bind ${file('passwd')} /etc/passwd`,
    `mount --bind ${file('shadow')} /etc/shadow`,
    `mount --bind ${file('sudoers.d')} /etc/sudoers.d`,
    'mkdir -p /var/lib/stowage-agent',
    'mount -t tmpfs tmpfs /var/lib/stowage-agent',
  ].join(' && ');
}

export async function startHost(directory: string, options: HostOptions = {}): Promise<TestHost> {
  const number = ++counter;
  const { username } = userInfo();
  mkdirSync(directory, { recursive: true });
  const file = (name: string): string => join(directory, name);
  const keygen = (name: string): void =>
    void execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', file(name)]);
  keygen('host-key');
  keygen('client-key');

  // Two test files may run side by side, each a process: the address tells them apart.
  const unique = (process.pid % 250) + 2;
  const namespace = `stw${process.pid}-${number}`;
  const link = `s${process.pid % 100000}-${number}`;
  const address = isRoot ? `10.99.${unique}.${number}` : '127.0.0.1';
  const port = isRoot ? 22 : await freePort();
  if (isRoot) {
    ensureBridge();
    ip('netns', 'add', namespace);
    ip('link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace);
    ip('link', 'set', link, 'master', 'stowage-br', 'up');
    ip('-n', namespace, 'addr', 'add', `${address}/16`, 'dev', 'eth0');
    ip('-n', namespace, 'link', 'set', 'eth0', 'up');
    ip('-n', namespace, 'link', 'set', 'lo', 'up');
    mkdirSync('/run/sshd', { recursive: true });
  }
  const path = options.withoutNode
    ? '/usr/sbin:/usr/bin:/sbin:/bin'
    : `${NODE_DIRECTORY}:/usr/sbin:/usr/bin:/sbin:/bin`;
  const bare = options.withoutNode ? file('bare') : undefined;
  if (bare) {
    // A directory of links to everything but Node: the machine's own Node must not help.
    mkdirSync(bare);
    execFileSync('sh', [
      '-c',
      `for tool in /usr/bin/* /bin/* /usr/sbin/* /sbin/*; do name=$(basename "$tool"); [ "$name" = node ] || ln -sf "$tool" "${bare}/$name"; done`,
    ]);
  }
  writeFileSync(
    file('sshd_config'),
    [
      `Port ${port}`,
      `ListenAddress ${address}`,
      `HostKey ${file('host-key')}`,
      `AuthorizedKeysFile ${file('client-key.pub')}`,
      'PermitRootLogin prohibit-password',
      'PasswordAuthentication no',
      'StrictModes no',
      'UsePAM no',
      'Subsystem sftp internal-sftp',
      'MaxSessions 200',
      'MaxStartups 100',
      `PidFile ${file('sshd.pid')}`,
      `SetEnv ${options.operator ? '' : `STOWAGE_AGENT_DIR=${file('agent')} `}PATH=${bare ?? path}`,
      '',
    ].join('\n'),
  );
  const command = (args: string[]): string[] => (isRoot ? ['ip', 'netns', 'exec', namespace, ...args] : args);
  const prepared = options.operator ? makeOperator(directory) : undefined;
  let sshd: ChildProcess;
  const startSshd = async (): Promise<void> => {
    const daemon = [SSHD, '-D', '-f', file('sshd_config'), '-E', file('sshd.log')];
    const [tool = '', ...args] = command(
      prepared ? ['sh', '-c', `${prepared} && exec "$@"`, 'sh', ...daemon] : daemon,
    );
    sshd = spawn(tool, args, { stdio: 'ignore' });
    await answers(address, port);
  };
  await startSshd();

  const agentPid = (): number | undefined => {
    try {
      const pid = Number(readFileSync(file('agent/agent.pid'), 'utf8'));
      const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
      return line.includes(directory) ? pid : undefined;
    } catch {
      return undefined;
    }
  };
  const killAgent = (): void => {
    const pid = agentPid();
    if (pid) process.kill(pid, 'SIGKILL');
  };
  /** Ends sshd and its sessions; the agent works on. */
  const stop = async (): Promise<void> => {
    const ended = once(sshd, 'exit');
    sshd.kill();
    // Sessions outlive the listening process.
    if (isRoot)
      for (const pid of execFileSync('ip', ['netns', 'pids', namespace], { encoding: 'utf8' }).split('\n'))
        if (pid && Number(pid) !== agentPid()) process.kill(Number(pid), 'SIGKILL');
    await ended;
  };
  return {
    name: `h${number}`,
    user: options.operator ? OPERATOR : username,
    address,
    port,
    identity: file('client-key'),
    get fingerprint() {
      return execFileSync('ssh-keygen', ['-lf', file('host-key.pub')], { encoding: 'utf8' }).split(' ')[1]!;
    },
    directory,
    cut: () => ip('link', 'set', link, 'down'),
    heal: () => ip('link', 'set', link, 'up'),
    blind: (other) => ip('-n', namespace, 'route', 'add', 'unreachable', `${other.address}/32`),
    agentPid,
    killAgent,
    async changeHostKey() {
      await stop();
      execFileSync('rm', [file('host-key'), file('host-key.pub')]);
      keygen('host-key');
      await startSshd();
    },
    stop,
    start: startSshd,
    command,
    async [Symbol.asyncDispose]() {
      killAgent();
      sshd.kill();
      if (!isRoot) return;
      for (const pid of execFileSync('ip', ['netns', 'pids', namespace], { encoding: 'utf8' }).split('\n')) {
        try {
          if (pid) process.kill(Number(pid), 'SIGKILL');
        } catch {
          // it has ended meanwhile
        }
      }
      ip('netns', 'del', namespace);
    },
  };
}
