import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip, constants as zlib } from 'node:zlib';
import type { Client } from 'ssh2';
import { StowageError } from '../../shared/util/errors.ts';

/** What is put on a host: the bundle and its native helper, both named by their hash. */
export interface AgentPayload {
  bundle: Buffer;
  hash: string;
  helper: Buffer | undefined;
  /** Where the controller keeps the compressed Node for hosts that have none. */
  cacheDirectory: string;
}

export function loadPayload(bundlePath: string, helperPath: string, cacheDirectory: string): AgentPayload {
  const bundle = readFileSync(bundlePath);
  return {
    bundle,
    hash: createHash('sha256').update(bundle).digest('hex'),
    helper: existsSync(helperPath) ? readFileSync(helperPath) : undefined,
    cacheDirectory,
  };
}

interface ExecResult {
  status: number;
  stdout: string;
  stderr: string;
}

/** Runs a fixed command, with data on its standard input where there is some. */
function exec(
  client: Client,
  command: string,
  input?: Buffer | (() => NodeJS.ReadableStream),
): Promise<ExecResult> {
  return new Promise((resolve, reject) => {
    client.exec(command, (error, channel) => {
      if (error) return reject(new StowageError('agent-start', error.message));
      const out: Buffer[] = [];
      const err: Buffer[] = [];
      let status = -1;
      channel.on('data', (data: Buffer) => out.push(data));
      channel.stderr.on('data', (data: Buffer) => err.push(data));
      channel.on('exit', (code: number | null) => {
        status = code ?? -1;
      });
      channel.on('close', () =>
        resolve({ status, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() }),
      );
      if (typeof input === 'function') input().pipe(channel);
      else channel.end(input);
    });
  });
}

async function execOk(client: Client, command: string, input?: Parameters<typeof exec>[2]): Promise<string> {
  const { status, stdout, stderr } = await exec(client, command, input);
  if (status !== 0)
    throw new StowageError(
      'agent-start',
      `the host answers status ${status}: ${(stderr || stdout).trim().slice(0, 500)}`,
    );
  return stdout;
}

/** Puts a file in place under its final name only when it is complete. */
async function put(
  client: Client,
  sudo: string,
  path: string,
  mode: string,
  data: Parameters<typeof exec>[2],
  decoder = 'cat',
): Promise<void> {
  await execOk(
    client,
    `${sudo}sh -c '${decoder} > ${path}.part.$$ && chmod ${mode} ${path}.part.$$ && mv ${path}.part.$$ ${path}'`,
    data,
  );
}

async function compressedNode(cacheDirectory: string): Promise<string> {
  const path = join(cacheDirectory, `node-${process.version}-${process.arch}.gz`);
  if (!existsSync(path)) {
    mkdirSync(cacheDirectory, { recursive: true });
    const part = `${path}.${process.pid}`;
    await pipeline(
      createReadStream(process.execPath),
      createGzip({ level: zlib.Z_BEST_SPEED }),
      createWriteStream(part),
    );
    await rename(part, path);
  }
  return path;
}

/** The Node to run the agent with: the host's own when it is new enough, else ours, put there once. */
async function ensureNode(
  client: Client,
  sudo: string,
  directory: string,
  cacheDirectory: string,
): Promise<string> {
  const own = await exec(client, 'command -v node && node --version');
  const [path, version] = own.stdout.trim().split('\n');
  if (own.status === 0 && path && Number(/^v(\d+)/.exec(version ?? '')?.[1]) >= 24) return path;
  const ours = `${directory}/node-${process.version}`;
  if ((await exec(client, `${sudo}test -x ${ours}`)).status === 0) return ours;
  const machine = (await execOk(client, 'uname -sm')).trim();
  const expected = { x64: 'Linux x86_64', arm64: 'Linux aarch64' }[process.arch as string];
  if (machine !== expected)
    throw new StowageError('agent-start', `the host is ${machine} and has no Node 24; install it there`);
  const compressed = await compressedNode(cacheDirectory);
  await put(client, sudo, ours, '755', () => createReadStream(compressed), 'gzip -dc');
  return ours;
}

/**
 * Puts the agent on a host, by content hash, and starts it unless this very bundle runs already; an older one is ended
 * first. Runs as root, or through `sudo -n`, or with the user's own rights; STOWAGE_AGENT_DIR on the host says where. Gives the socket to forward to, or, where the SSH user may not open a
 * root-owned socket, the command that bridges to it.
 */
export async function installAgent(
  client: Client,
  payload: AgentPayload,
): Promise<{ socket: string; bridge: string | undefined }> {
  const facts = await execOk(
    client,
    'id -u; printenv STOWAGE_AGENT_DIR || echo; echo "$HOME"; sudo -n true 2>/dev/null && echo sudo || echo none',
  );
  const [uid, given, home, may] = facts.split('\n');
  const root = uid === '0';
  const sudo = !root && may === 'sudo' && !given ? 'sudo -n ' : '';
  // Without any rights the agent still serves what its user may touch.
  const directory = given || (root || sudo ? '/var/lib/stowage-agent' : `${home}/.local/state/stowage-agent`);
  if (!/^\/[\w./-]+$/.test(directory))
    throw new StowageError(
      'agent-start',
      `the agent's directory ${directory} has characters that are not used`,
    );
  const bundle = `${directory}/agent-${payload.hash}.mjs`;
  await execOk(client, `${sudo}mkdir -p -m 700 ${directory}`);
  if ((await exec(client, `${sudo}test -f ${bundle}`)).status !== 0) {
    await put(client, sudo, bundle, '600', payload.bundle);
    if (payload.helper) await put(client, sudo, `${directory}/koffi.node`, '600', payload.helper);
  }
  const node = await ensureNode(client, sudo, directory, payload.cacheDirectory);
  const socket = `${directory}/agent.sock`;
  const start = [
    `cd ${directory}`,
    `running=$(cat agent.pid 2>/dev/null)`,
    // A process number is only ours when the command line says so: after a reboot it may be anybody's.
    `if [ -n "$running" ] && tr "\\0" " " < /proc/$running/cmdline 2>/dev/null | grep -q "agent-${payload.hash}.mjs serve"; then [ -S agent.sock ] && exit 0; fi`,
    `if [ -n "$running" ] && tr "\\0" " " < /proc/$running/cmdline 2>/dev/null | grep -q "agent-[0-9a-f]*.mjs serve"; then kill $running; for i in 1 2 3 4 5 6 7 8 9 10; do kill -0 $running 2>/dev/null || break; sleep 0.3; done; fi`,
    `rm -f agent.sock`,
    `NODE_COMPILE_CACHE=${directory}/compiled setsid ${node} ${bundle} serve --state ${directory} --socket ${socket} </dev/null >>agent.log 2>&1 & echo $! > agent.pid`,
    `for i in $(seq 100); do [ -S agent.sock ] && exit 0; kill -0 $(cat agent.pid) 2>/dev/null || break; sleep 0.1; done`,
    `tail -n 5 agent.log >&2; exit 1`,
  ].join('\n');
  await execOk(client, `${sudo}sh -s`, Buffer.from(`${start}\n`));
  const bridge = sudo === '' ? undefined : `sudo -n ${node} ${bundle} bridge --socket ${socket}`;
  return { socket, bridge };
}
