import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from './controller.ts';

/**
 * An address of this process alone in its network namespace, and ports of its bricks: test files run side by side. Gluster takes none
 * of 127.0.0.0/8.
 */
const ADDRESS = `10.98.${process.pid % 250}.${1 + (Math.floor(process.pid / 250) % 250)}`;
const BRICK_PORT = 49_152 + (process.pid % 50) * 200;

/** A gluster server with one volume, `gv0`, of one brick: processes, mounts and directories of its own. */
export interface GlusterServer extends AsyncDisposable {
  readonly address: string;
}

export async function startGluster(directory: string): Promise<GlusterServer> {
  for (const name of ['lib', 'log', 'run', 'brick']) mkdirSync(join(directory, name), { recursive: true });
  const socket = join(directory, 'glusterd.sock');
  const volfile = join(directory, 'glusterd.vol');
  writeFileSync(
    volfile,
    `volume management
    type mgmt/glusterd
    option working-directory /var/lib/glusterd
    option run-directory /var/run/gluster
    option transport-type socket
    option transport.socket.listen-port 24007
    option transport.socket.bind-address ${ADDRESS}
    option glusterd-sockfile ${socket}
    option ping-timeout 0
    option base-port ${BRICK_PORT}
    option max-port 60999
end-volume
`,
  );
  execFileSync('ip', ['addr', 'replace', `${ADDRESS}/32`, 'dev', 'lo']);
  const script = `mkdir -p /var/lib/glusterd /var/log/glusterfs /var/run/gluster &&
mount --bind ${directory}/lib /var/lib/glusterd && mount --bind ${directory}/log /var/log/glusterfs &&
mount --bind ${directory}/run /var/run/gluster &&
exec glusterd -N -f ${volfile} -p ${directory}/glusterd.pid -l ${directory}/log/glusterd.log`;
  // In a process namespace: with its first process all others end, the bricks too.
  const namespaces = [
    '--mount',
    '--propagation',
    'private',
    '--pid',
    '--fork',
    '--kill-child',
    '--mount-proc',
  ];
  const child = spawn('unshare', [...namespaces, 'sh', '-c', script], { stdio: 'ignore' });
  const gluster = (...args: string[]): string =>
    execFileSync('gluster', ['--mode=script', `--glusterd-sock=${socket}`, ...args], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 30_000,
    });
  const end = async (): Promise<void> => {
    if (child.exitCode !== null) return;
    child.kill('SIGKILL');
    await new Promise((done) => child.once('exit', done));
  };
  try {
    await until('glusterd to answer', () => {
      try {
        return gluster('pool', 'list') !== '';
      } catch {
        return false;
      }
    });
    gluster('volume', 'create', 'gv0', `${ADDRESS}:${directory}/brick`, 'force');
    // What one client changes the others see at once.
    for (const option of ['stat-prefetch', 'quick-read', 'io-cache', 'write-behind', 'read-ahead'])
      gluster('volume', 'set', 'gv0', `performance.${option}`, 'off');
    gluster('volume', 'start', 'gv0');
    return { address: ADDRESS, [Symbol.asyncDispose]: end };
  } catch (error) {
    await end();
    throw error;
  }
}
