import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command, Option } from 'commander';
import { clock, sleep } from '../shared/util/clock.ts';
import { StowageError } from '../shared/util/errors.ts';
import { VERSION } from '../shared/version.ts';
import { doctor } from './doctor.ts';
import { ploopCommand } from './ploop-command.ts';
import { createAgent, listen } from './server.ts';

const DEFAULT_STATE =
  process.getuid?.() === 0
    ? '/var/lib/stowage-agent'
    : join(process.env.HOME ?? '.', '.local/state/stowage-agent');

/** SHA-256 of the bundle that runs; empty when it runs from sources. */
function bundleHash(): string {
  const path = fileURLToPath(import.meta.url);
  return path.endsWith('.ts') ? '' : createHash('sha256').update(readFileSync(path)).digest('hex');
}

/** Whoever stops an agent does not wait much longer. */
const CLOSE_MS = 3000;

function log(message: string): void {
  process.stderr.write(`${new Date(clock.now()).toISOString()} ${message}\n`);
}

/** Ends the process: nothing that does not close keeps it, as what counts is durable at each moment. */
async function end(closing: Promise<void>): Promise<void> {
  await Promise.race([closing, sleep(CLOSE_MS)]);
  process.exit(0);
}

function untilSignalled(): AbortSignal {
  const controller = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => controller.abort());
  return controller.signal;
}

export const program = new Command('stowage-agent')
  .description('the storage agent of one host')
  .version(VERSION);
const state = (): Option =>
  new Option('--state <dir>', 'where pools and keys are kept').default(
    DEFAULT_STATE,
    '/var/lib/stowage-agent as root, else ~/.local/state/stowage-agent',
  );
const socket = [
  '--socket <path>',
  'Unix socket to answer on; default: agent.sock in the state directory',
] as const;

program
  .command('serve')
  .description('answer on a Unix socket')
  .addOption(state())
  .option(...socket)
  .action(async (options: { state: string; socket?: string }) => {
    const path = options.socket ?? join(options.state, 'agent.sock');
    const running = await createAgent(options.state, { version: VERSION, bundle: bundleHash() });
    await listen(running.server, path);
    log(`agent ${running.agent.state.agentId} answers on ${path}`);
    untilSignalled().addEventListener('abort', () => void end(running.close()));
  });

program
  .command('connect')
  .argument('[controller]', 'its URL, such as https://storage.example:7070; default: STOWAGE_CONTROLLER')
  .description('dial a controller by WebSocket and serve it; needs no open port here')
  .addOption(state())
  .option(
    '--token-file <path>',
    'file with the one-time enrolment token, for the first time; deleted when used',
  )
  .action(async (given: string | undefined, options: { state: string; tokenFile?: string }) => {
    const controller = given ?? process.env.STOWAGE_CONTROLLER ?? '';
    if (!/^https?:$/.test(URL.parse(controller)?.protocol ?? ''))
      throw new StowageError(
        'invalid-argument',
        `which controller? Give its URL, such as https://storage.example:7070, and not '${controller}'; as a service it is STOWAGE_CONTROLLER in /etc/default/stowage-agent`,
      );
    const { keepConnected } = await import('./connect.ts');
    const running = await createAgent(options.state, { version: VERSION, bundle: bundleHash() });
    const signal = untilSignalled();
    const { agentId } = running.agent.state;
    await keepConnected(
      { controller, tokenFile: options.tokenFile, stateDirectory: options.state, agentId, log },
      running.server,
      signal,
    );
    await end(running.close());
  });

program
  .command('bridge')
  .description('join standard input and output to the agent socket, for links that cannot forward it')
  .addOption(state())
  .option(...socket)
  .action((options: { state: string; socket?: string }) => {
    const stream = createConnection(options.socket ?? join(options.state, 'agent.sock'));
    stream.on('error', (error) => {
      log(error.message);
      process.exit(1);
    });
    process.stdin.pipe(stream).pipe(process.stdout);
    stream.on('close', () => process.exit(0));
  });

program
  .command('doctor')
  .description('say what this host has and lacks; exit status 1 when something is missing')
  .option('--json', 'for programs')
  .action(async (options: { json?: boolean }) => {
    const { loadBackends } = await import('./backends/registry.ts');
    const findings = await doctor('/tmp', await loadBackends(process.env.STOWAGE_BACKEND_DIR));
    if (options.json) console.log(JSON.stringify(findings, null, 2));
    else
      for (const { name, ok, detail, remedy } of findings)
        console.log(
          `${ok ? 'ok  ' : 'MISS'} ${name}: ${detail}${ok || !remedy ? '' : `\n     remedy: ${remedy}`}`,
        );
    if (findings.some((finding) => !finding.ok)) process.exitCode = 1;
  });

program
  .command('pool-worker', { hidden: true })
  .description('work on the storage of one pool; started by the agent itself')
  .action(async () => {
    const { servePool } = await import('./pools/worker.ts');
    servePool();
  });

program.addCommand(ploopCommand());
