import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';

/** A cluster of one monitor, one manager and one OSD whose storage is memory, on loopback. */
export interface CephCluster extends AsyncDisposable {
  /** The path of its configuration, which names the keys too. */
  readonly conf: string;
  /** `host:port` of its monitor. */
  readonly monitor: { name: string; port: number };
  readonly keyring: string;
  /** Runs one of Ceph's tools on it. */
  run(tool: 'ceph' | 'rbd' | 'rados', ...args: string[]): string;
  /** Holds the daemons as they are: storage that does not answer. */
  freeze(): void;
  /** Lets them go on. Settles when all parts of the cluster answer: on a busy machine some do only minutes later. */
  thaw(): Promise<void>;
}

const MEMORY = '/dev/shm';
/** What the monitor keeps, and what it needs while it compacts it. */
const LEAST_ROOM_BYTES = 2 ** 30;

function roomInMemory(): boolean {
  try {
    const { bavail, bsize } = statfsSync(MEMORY);
    return bavail * bsize > LEAST_ROOM_BYTES;
  } catch {
    return false;
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const address = server.address();
  await new Promise((done) => server.close(done));
  if (typeof address !== 'object' || address === null) throw new Error('no free port');
  return address.port;
}

const configuration = (directory: string, fsid: string, port: number, bytes: number): string => `[global]
fsid = ${fsid}
mon host = [v2:127.0.0.1:${port}/0]
public network = 127.0.0.0/8
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd crush chooseleaf type = 0
mon allow pool size one = true
mon allow pool delete = true
mon data avail warn = 1
mon data avail crit = 0
ms bind ipv6 = false
ms bind msgr1 = false
run dir = ${directory}/run
admin socket = ${directory}/run/$name.$pid.asok
log file = ${directory}/$name.log
pid file = ${directory}/run/$name.pid
keyring = ${directory}/keyring
[mon]
mon data = ${directory}/mon
[mgr]
mgr data = ${directory}/mgr
mgr initial modules =
[osd]
osd data = ${directory}/osd
osd objectstore = memstore
memstore device bytes = ${bytes}
osd op queue = wpq
`;

/**
 * Starts a cluster with one pool, `rbd`; some ten seconds. Its monitor writes each change to its disk before it answers,
 * so that it is kept in memory where there is room: beside tests that fill the disk it would not answer for many seconds.
 */
export async function startCeph(bytes = 2 ** 31): Promise<CephCluster> {
  const directory = mkdtempSync(join(roomInMemory() ? MEMORY : tmpdir(), 'stowage-test-ceph-'));
  const conf = join(directory, 'ceph.conf');
  const env = { PATH: process.env.PATH, CEPH_CONF: conf };
  // In the foreground, as children: they end with whoever kills them by their ids.
  const children = new Set<ReturnType<typeof spawn>>();
  const start = (daemon: string, id: string): void => {
    const child = spawn(daemon, ['-f', '-i', id], { env, stdio: 'ignore' });
    children.add(child);
    child.once('exit', () => children.delete(child));
  };
  const signal = (name: NodeJS.Signals): void => {
    for (const child of children) child.kill(name);
  };
  const killed = (): void => {
    signal('SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  };
  process.once('exit', killed);
  // A test run that is stopped leaves nothing behind.
  const stopped = (): void => process.exit(143);
  process.once('SIGTERM', stopped);
  for (const part of ['mon', 'mgr', 'osd', 'run']) mkdirSync(join(directory, part), { recursive: true });
  const [keyring, map] = [join(directory, 'keyring'), join(directory, 'monmap')];
  const [fsid, port] = [randomUUID(), await freePort()];
  writeFileSync(conf, configuration(directory, fsid, port, bytes));
  const exec = (tool: string, ...args: string[]): string =>
    execFileSync(tool, args, { env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], timeout: 60_000 });
  const key = (name: string, ...caps: string[]): void =>
    void exec('ceph-authtool', keyring, '--create-keyring', '--gen-key', '-n', name, ...caps);
  key('mon.', '--cap', 'mon', 'allow *');
  for (const [name, ...caps] of [
    ['client.admin', '--cap', 'mon', 'allow *', '--cap', 'osd', 'allow *', '--cap', 'mgr', 'allow *'],
    ['mgr.x', '--cap', 'mon', 'allow profile mgr', '--cap', 'osd', 'allow *', '--cap', 'mds', 'allow *'],
    [
      'osd.0',
      '--cap',
      'mon',
      'allow profile osd',
      '--cap',
      'mgr',
      'allow profile osd',
      '--cap',
      'osd',
      'allow *',
    ],
  ] as [string, ...string[]][])
    exec('ceph-authtool', keyring, '--gen-key', '-n', name, ...caps);
  exec('monmaptool', '--create', '--addv', 'a', `[v2:127.0.0.1:${port}]`, '--fsid', fsid, map);
  exec('ceph-mon', '--mkfs', '-i', 'a', '--monmap', map, '--keyring', keyring);

  const cluster: CephCluster = {
    conf,
    keyring,
    monitor: { name: '127.0.0.1', port },
    run: (tool, ...args) => exec(tool, ...args),
    freeze: () => signal('SIGSTOP'),
    async thaw() {
      signal('SIGCONT');
      // Names enough that each placement group has some.
      const names = Array.from({ length: 24 }, (_, index) => `answers-${index}`);
      for (let tries = 0; tries < 100; tries++) {
        const stuck = names.filter((name) => {
          const args = ['5', 'rados', '--pool', 'rbd', 'put', name, conf];
          return spawnSync('timeout', args, { env, stdio: 'ignore' }).status !== 0;
        });
        if (stuck.length === 0) return;
        await setTimeout(1000);
      }
      throw new Error('the cluster does not answer');
    },
    async [Symbol.asyncDispose]() {
      process.off('exit', killed);
      process.off('SIGTERM', stopped);
      const ended = [...children].map((child) => new Promise((done) => child.once('exit', done)));
      signal('SIGKILL');
      await Promise.all(ended);
      rmSync(directory, { recursive: true, force: true });
    },
  };
  try {
    start('ceph-mon', 'a');
    exec('ceph', '-s');
    start('ceph-mgr', 'x');
    const osd = randomUUID();
    exec('ceph', 'osd', 'new', osd);
    exec('ceph-osd', '-i', '0', '--mkfs', '--osd-uuid', osd);
    start('ceph-osd', '0');
    while (!exec('ceph', 'osd', 'stat').includes('1 up')) await setTimeout(200);
    exec('ceph', 'osd', 'pool', 'create', 'rbd', '8');
    exec('rbd', 'pool', 'init', 'rbd');
    // The manager counts a moment later.
    while (!/"max_avail":[1-9]/.test(exec('ceph', 'df', '--format', 'json'))) await setTimeout(200);
    return cluster;
  } catch (error) {
    await cluster[Symbol.asyncDispose]();
    throw error;
  }
}
