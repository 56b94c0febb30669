import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocket } from 'ws';
import type { z } from 'zod';
import { keepConnected } from '../../agent/connect.ts';
import { openStore } from '../../controller/store/store.ts';
import { poolDefinitionSchema } from '../../shared/conf/pool.ts';
import { volumeSchema } from '../../shared/conf/volume.ts';
import { type AgentEvent, eventsRequestSchema, PROTOCOL_VERSION } from '../../shared/protocol/agent.ts';
import type { FleetEvent, FleetTotals } from '../../shared/protocol/api.ts';
import type { HostDomain } from '../../shared/protocol/domains.ts';
import { publicPem } from '../../shared/protocol/link-keys.ts';
import { TestController, until } from '../support/controller.ts';
import { newPostgresDatabase, stopPostgres } from '../support/postgres.ts';
import { scratch } from '../support/scratch.ts';

/**
 * A controller with a fleet of simulated agents that dial in: real sockets, links and protocol; their pools are in memory. All
 * come at once, as after a restart of the controller; first when it knows nothing, then when they have nothing new to tell.
 */
/** Two sockets an agent: where a process may have 20,000 files, more agents than 9,000 have no place. */
const HOSTS = Number(process.env.STOWAGE_BENCH_HOSTS ?? 9000);
const VOLUMES = 100;
const DOMAINS = 20;
const CHANGES = 500;

const generation = randomUUID();
const agents = new Map<number, { id: string; revision: number; events?: ServerResponse }>();

/** Numbers of guests are used once in a fleet. */
const nameOf = (host: number, number: number): string =>
  `vm-${100_000 + host * VOLUMES + number}-disk-0.qcow2`;

const volumeOf = (host: number, number: number, etag = '1') =>
  volumeSchema.parse({
    // One that is the same at each start.
    id: `00000000-0000-4000-8000-${String(host * 1000 + number).padStart(12, '0')}`,
    name: nameOf(host, number),
    type: 'file',
    format: 'qcow2',
    path: `/srv/pool/${nameOf(host, number)}`,
    capacityBytes: 32 * 2 ** 30,
    allocationBytes: 3 * 2 ** 30,
    permissions: { owner: 0, group: 0, mode: 0o600 },
    timestamps: { atime: '1700000000', mtime: '1700000000', ctime: '1700000000' },
    compat: '1.1',
    clusterBytes: 65536,
    snapshotCount: 0,
    etag,
  });

function tell(
  host: number,
  { known: { pool: known }, domains: knownDomains }: z.output<typeof eventsRequestSchema>,
  line: (event: AgentEvent) => void,
): void {
  const { id, revision } = agents.get(host)!;
  line({
    type: 'agent',
    info: {
      ...{ protocol: PROTOCOL_VERSION, version: '0', bundle: '', agentId: id, pid: 1, rssBytes: 1 },
      ...{ hostname: `host-${host}`, refusedBackends: [], backends: [] },
    },
  });
  const definition = {
    name: 'pool',
    uuid: `00000000-0000-4000-9000-${String(host).padStart(12, '0')}`,
    type: 'dir',
    target: { path: '/srv/pool' },
  };
  line({ type: 'begin', pools: ['pool'] });
  line({
    type: 'pool',
    pool: {
      ...poolDefinitionSchema.parse(definition),
      state: 'running',
      since: 1,
      capacityBytes: 2 ** 42,
      allocationBytes: 2 ** 41,
      availableBytes: 2 ** 41,
    },
  });
  const now = { generation, revision };
  if (known?.generation === generation && known.revision === revision) {
    line({ type: 'volumes', pool: 'pool', volumes: [], gone: [], now });
  } else {
    line({ type: 'volumes-begin', pool: 'pool' });
    line({
      type: 'volumes',
      pool: 'pool',
      volumes: Array.from({ length: VOLUMES }, (_, number) => volumeOf(host, number)),
      gone: [],
    });
    line({ type: 'volumes-end', pool: 'pool', now });
  }
  if (knownDomains !== 'd') {
    line({ type: 'domains-begin' });
    line({
      type: 'domains',
      domains: Array.from({ length: DOMAINS }, (_, number) => domainOf(host, number)),
      gone: [],
    });
    line({ type: 'domains-end', now: 'd' });
  }
  line({ type: 'caught-up' });
}

/** A machine with one disk. */
const domainOf = (host: number, number: number): HostDomain => ({
  name: `vm-${100_000 + host * VOLUMES + number}`,
  ...{ origin: 'libvirt', state: 'running', persistent: true },
  images: [{ target: 'vda', role: 'disk', path: `/srv/pool/${nameOf(host, number)}` }],
  uses: [{ pool: 'pool', volume: nameOf(host, number), target: 'vda', role: 'disk', through: [] }],
});

function startAgent(host: number, controller: string, stateDirectory: string, signal: AbortSignal): void {
  const agent = { id: randomUUID(), revision: 1, events: undefined as ServerResponse | undefined };
  agents.set(host, agent);
  const server = createServer((request, response) => {
    const line = (event: AgentEvent): void => void response.write(`${JSON.stringify(event)}\n`);
    if (request.url !== '/v1/events') return void response.end('[]');
    let body = '';
    request.on('data', (data) => {
      body += data;
    });
    request.on('end', () => {
      agent.events = response;
      tell(host, eventsRequestSchema.parse(JSON.parse(body)), line);
      const alive = setInterval(() => line({ type: 'alive' }), 10_000);
      response.once('close', () => clearInterval(alive));
    });
  });
  void keepConnected({ controller, stateDirectory, agentId: agent.id, log: () => undefined }, server, signal);
}

const rssMiB = (pid: number): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;
function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** Notes in a file, four times a second, for how long the event loop was blocked at most since the note before. */
const PROBE = `
import { writeFileSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
const delay = monitorEventLoopDelay({ resolution: 5 });
delay.enable();
let most = 0;
process.on('SIGUSR2', () => {
  delay.reset();
  most = 0;
});
setInterval(() => {
  most = Math.max(most, delay.max / 1e6);
  writeFileSync(process.env.STOWAGE_BENCH_PROBE, JSON.stringify({ most, p99: delay.percentile(99) / 1e6 }));
}, 250).unref();
`;

async function run(name: string, location: string | undefined): Promise<void> {
  await using room = scratch();
  const data = join(room.path, 'data');
  const state = join(room.path, 'agents');
  mkdirSync(data, { mode: 0o700 });
  mkdirSync(state, { mode: 0o700 });
  const { privateKey } = generateKeyPairSync('ed25519');
  writeFileSync(join(state, 'link-key.pem'), privateKey.export({ type: 'pkcs8', format: 'pem' }), {
    mode: 0o600,
  });
  const probe = join(room.path, 'probe.mjs');
  const measured = join(room.path, 'measured');
  writeFileSync(probe, PROBE);
  const env = {
    ...(location && { STOWAGE_STORE: location }),
    NODE_OPTIONS: `--import ${probe}`,
    STOWAGE_BENCH_PROBE: measured,
  };
  const stop = new AbortController();
  await using controller = await TestController.start(data, ['--no-local-agent'], env);
  await controller.kill('SIGTERM');
  for (let host = 0; host < HOSTS; host++) startAgent(host, controller.url, state, stop.signal);
  // As if each had enrolled.
  const publicKey = publicPem(privateKey);
  const store = await openStore(location ?? join(data, 'stowage.db'));
  await store.transaction(async ({ hosts }) => {
    for (const [host, { id }] of agents)
      await hosts.insert({
        ...{ id: `host-${host}`, name: `host-${host}`, agentId: id },
        address: { kind: 'websocket', publicKey, agentId: id },
        ...{ state: 'connecting', since: 1, createdAt: 1, labels: [] },
      });
  });
  await store.close();

  const settled = async (title: string): Promise<void> => {
    const began = performance.now();
    await controller.restart();
    const up = (performance.now() - began) / 1000;
    // What loading it took is not counted.
    process.kill(controller.pid, 'SIGUSR2');
    const cpu = cpuMs(controller.pid);
    for (;;) {
      const { reachable } = (await controller.api<FleetTotals>('/fleet')).hosts.byState;
      const last = await controller.api<unknown[]>(`/volumes?host=host-${HOSTS - 1}`).catch(() => []);
      if (reachable === HOSTS && last.length === VOLUMES) break;
      await sleep(2000);
    }
    // What was told last is written a moment later.
    const total = async (): Promise<number> =>
      (await controller.api<unknown[]>(`/volumes?limit=10000&host=host-${Math.floor(HOSTS / 2)}`)).length;
    await until('all volumes are known', async () => (await total()) === VOLUMES);
    const took = (performance.now() - began) / 1000;
    await sleep(500);
    const { most, p99 } = JSON.parse(readFileSync(measured, 'utf8')) as { most: number; p99: number };
    console.log(
      `  ${name}, ${title}: ready ${up.toFixed(1)} s, settled ${took.toFixed(1)} s; event loop blocked at most ${most.toFixed(0)} ms (99 %: ${p99.toFixed(0)} ms); controller ${rssMiB(controller.pid).toFixed(0)} MiB, ${((cpuMs(controller.pid) - cpu) / 1000).toFixed(1)} CPU-s`,
    );
  };
  await settled(`${HOSTS} agents with ${VOLUMES} volumes, all new`);
  await controller.kill('SIGKILL');
  await settled('all come back with nothing new');

  const socket = new WebSocket(`${controller.url.replace('http', 'ws')}/api/v1/events`, {
    headers: { authorization: `Bearer ${controller.token}` },
  });
  await new Promise((open) => socket.once('open', open));
  await sleep(5000);
  const idle = cpuMs(controller.pid);
  await sleep(5000);
  const perSecond = (cpuMs(controller.pid) - idle) / 5;
  const delays: number[] = [];
  const before = cpuMs(controller.pid);
  const began = performance.now();
  for (let change = 0; change < CHANGES; change++) {
    const host = Math.floor(Math.random() * HOSTS);
    const agent = agents.get(host)!;
    const etag = `change-${change}`;
    const heard = new Promise<void>((resolve) => {
      const listen = (text: unknown): void => {
        const event = JSON.parse(String(text)) as FleetEvent;
        if (event.type !== 'volume' || event.now?.etag !== etag) return;
        socket.off('message', listen);
        resolve();
      };
      socket.on('message', listen);
    });
    const sent = performance.now();
    const event: AgentEvent = {
      type: 'volumes',
      pool: 'pool',
      volumes: [volumeOf(host, 1, etag)],
      gone: [],
      now: { generation, revision: ++agent.revision },
    };
    agent.events!.write(`${JSON.stringify(event)}\n`);
    await heard;
    delays.push(performance.now() - sent);
  }
  const seconds = (performance.now() - began) / 1000;
  delays.sort((left, right) => left - right);
  const cost = (cpuMs(controller.pid) - before - perSecond * seconds) / CHANGES;
  console.log(
    `  ${name}, one changed volume: subscriber told after ${delays[CHANGES / 2]!.toFixed(1)} ms (99 %: ${delays[Math.floor(CHANGES * 0.99)]!.toFixed(1)} ms), ${cost.toFixed(2)} ms of the controller's CPU beside ${perSecond.toFixed(0)} ms a second at rest`,
  );
  const asked = async (title: string, query: () => string): Promise<void> => {
    const times: number[] = [];
    for (let count = 0; count < 200; count++) {
      const at = performance.now();
      await (await controller.fetch(`/volumes?${query()}`)).arrayBuffer();
      times.push(performance.now() - at);
    }
    times.sort((left, right) => left - right);
    console.log(
      `  ${name}, ${title} of ${HOSTS * VOLUMES} volumes: median ${times[100]!.toFixed(1)} ms, 99 % ${times[198]!.toFixed(1)} ms`,
    );
  };
  const anyHost = (): number => Math.floor(Math.random() * HOSTS);
  const anyNumber = (): number => 100_000 + anyHost() * VOLUMES + 7;
  for (const limit of [100, 1000])
    await asked(`a page of ${limit}`, () => {
      const host = anyHost();
      const after = encodeURIComponent(`host-${host}/pool/${nameOf(host, 1)}`);
      return `limit=${limit}&after=${after}`;
    });
  await asked('100 by a part of the name that one has', () => `limit=100&search=${anyNumber()}-d`);
  await asked('100 by a part that some have', () => `limit=100&search=${String(anyNumber()).slice(0, 4)}`);
  await asked('100 by a part that all have', () => 'limit=100&search=DISK');
  await asked('100 by a part that none has', () => 'limit=100&search=webserver');
  await asked('those that a domain uses,', () => `limit=100&user=vm-${anyNumber()}`);
  await asked('100 of a format and an age', () => 'limit=100&format=qcow2&modifiedBefore=1800000000000');
  socket.terminate();
  stop.abort();
}

await run('SQLite', undefined);
await run('PostgreSQL', await newPostgresDatabase());
await stopPostgres();
process.exit(0);
