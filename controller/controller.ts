import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { clock } from '../shared/util/clock.ts';
import { createApi } from './api/api.ts';
import { AuditTrail } from './audit/trail.ts';
import { Tokens } from './auth/tokens.ts';
import { agentPayload } from './hosts/bundle.ts';
import { Fleet } from './hosts/fleet.ts';
import { WebSocketLinks } from './hosts/websocket-links.ts';
import { Inventory } from './inventory/inventory.ts';
import { collectLeftovers } from './jobs/collector.ts';
import { Leases } from './jobs/leases.ts';
import { migrate } from './jobs/migrate.ts';
import { JobRunner } from './jobs/runner.ts';
import { Uploads } from './jobs/uploads.ts';
import { clone, wipe } from './jobs/volume-jobs.ts';
import { openStore, type Store } from './store/open.ts';

const HOUSEKEEPING_MS = 60_000;

export interface ControllerOptions {
  dataDirectory: string;
  host: string;
  port: number;
  logLevel: string;
}

/** The parts that the API works on. */
export interface Parts {
  store: Store;
  audit: AuditTrail;
  tokens: Tokens;
  inventory: Inventory;
  fleet: Fleet;
  webSockets: WebSocketLinks;
  leases: Leases;
  jobs: JobRunner;
  uploads: Uploads;
}

/** A running controller. */
export interface Controller {
  parts: Parts;
  /** Where the API answers. */
  url: string;
  close(): Promise<void>;
}

export async function startController(options: ControllerOptions): Promise<Controller> {
  mkdirSync(options.dataDirectory, { recursive: true, mode: 0o700 });
  const logger = pino({ level: options.logLevel }, pino.destination(2));
  const store = await openStore(join(options.dataDirectory, 'stowage.db'));
  const audit = new AuditTrail(store, options.dataDirectory);
  const inventory = new Inventory(store);
  const webSockets = new WebSocketLinks(store, audit, options.dataDirectory);
  const fleet = new Fleet(store, inventory, webSockets, () =>
    agentPayload(join(options.dataDirectory, 'cache')),
  );
  const leases = new Leases(store);
  const jobs = new JobRunner({ store, leases, fleet, inventory, audit });
  const uploads = new Uploads({ store, fleet, inventory, leases, jobs });
  const parts: Parts = {
    store,
    audit,
    tokens: new Tokens(store),
    inventory,
    fleet,
    webSockets,
    leases,
    jobs,
    uploads,
  };

  jobs.register(migrate);
  jobs.register(clone);
  jobs.register(wipe);
  const collect = (host: string): void =>
    void collectLeftovers(store, fleet, host).then(
      (count) => count > 0 && logger.info({ host, count }, 'leftover transfers removed'),
      () => undefined,
    );
  fleet.onReachable = (host) => {
    logger.info({ host: host.name }, 'host reachable');
    jobs.wake();
    collect(host.name);
  };
  const keepHouse = async (): Promise<void> => {
    for (const host of await fleet.list()) if (host.state === 'reachable') collect(host.name);
    await uploads.dropIdle();
  };
  const housekeeping = clock.every(HOUSEKEEPING_MS, () => {
    keepHouse().catch((error) => logger.warn(error, 'housekeeping failed'));
  });

  const api = await createApi(parts, logger);
  await leases.dropOrphans();
  await uploads.dropUnbegun();
  await fleet.start();
  await jobs.start();
  const url = await api.listen({ host: options.host, port: options.port });
  return {
    parts,
    url,
    async close() {
      housekeeping.stop();
      await jobs.close();
      await fleet.close();
      webSockets.close();
      api.server.closeAllConnections();
      await api.close();
      await store.destroy();
    },
  };
}
