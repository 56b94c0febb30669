import { chmod, mkdir } from 'node:fs/promises';
import type { Server } from 'node:http';
import { createConnection, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { clock } from '../shared/util/clock.ts';
import { StowageError } from '../shared/util/errors.ts';
import { removeIfExists } from './host/files.ts';
import { releaseMemory } from './host/memory.ts';
import { HostAgent } from './host-agent.ts';
import { createHttp } from './http.ts';
import { attributeRoutes } from './routes/attributes.ts';
import { domainRoutes } from './routes/domains.ts';
import { eventRoutes } from './routes/events.ts';
import { hostRoutes } from './routes/host.ts';
import { poolRoutes } from './routes/pools.ts';
import { streamRoutes } from './routes/streams.ts';
import { transferRoutes } from './routes/transfers.ts';
import { trashRoutes } from './routes/trash.ts';
import { volumeRoutes } from './routes/volumes.ts';

const SETTLED_MS = 2_000;

/** An agent ready to answer over whatever stream it is given (`server.emit('connection', stream)`). */
export async function createAgent(
  stateDirectory: string,
  identity: { version: string; bundle: string },
): Promise<{ agent: HostAgent; server: Server; close(): Promise<void> }> {
  const agent = await HostAgent.open(stateDirectory, identity);
  const { http, server } = createHttp();
  hostRoutes(http, agent);
  eventRoutes(http, agent);
  poolRoutes(http, agent);
  domainRoutes(http, agent);
  volumeRoutes(http, agent);
  attributeRoutes(http, agent);
  trashRoutes(http, agent);
  streamRoutes(http, agent);
  transferRoutes(http, agent, server);
  await http.ready();
  // What loading it took is not needed again.
  clock.after(SETTLED_MS, () => void releaseMemory().catch(() => undefined), false);
  const close = async (): Promise<void> => {
    agent.close();
    server.closeAllConnections();
    await http.close();
  };
  return { agent, server, close };
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket: Socket = createConnection(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

/** Listens on a Unix socket that only its owner may use. Throws when another agent answers there already. */
export async function listen(server: Server, path: string): Promise<void> {
  if (await answers(path)) throw new StowageError('host-in-use', `another agent answers on ${path}`);
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await removeIfExists(path);
  const umask = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, resolve);
    });
  } finally {
    process.umask(umask);
  }
  await chmod(path, 0o600);
}
