import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { clock, repeat } from '../shared/util/clock.ts';
import { StowageError } from '../shared/util/errors.ts';
import type { Services } from './actions/action.ts';
import { Delivery } from './attention/delivery.ts';
import { Attention } from './attention/items.ts';
import { AttentionWatch, type WatchOptions } from './attention/watch.ts';
import { AuditTrail } from './audit/trail.ts';
import { TrailUpkeep, type UpkeepOptions } from './audit/upkeep.ts';
import { Account } from './auth/account.ts';
import { Gate } from './auth/gate.ts';
import { HostLabels } from './auth/host-labels.ts';
import { OpenId, type OpenIdOptions } from './auth/open-id.ts';
import { Passkeys } from './auth/passkeys.ts';
import { Revocations } from './auth/revocations.ts';
import { Sessions } from './auth/sessions.ts';
import { SignIn } from './auth/sign-in.ts';
import { Tokens } from './auth/tokens.ts';
import { Users } from './auth/users.ts';
import type { Doors } from './doors/doors.ts';
import { EventReaders } from './doors/events/event-readers.ts';
import type { Certificate } from './doors/rest/certificate.ts';
import { createRestServer } from './doors/rest/server.ts';
import { sourceThrough } from './doors/source.ts';
import { EventLog } from './events/event-log.ts';
import { FleetEvents } from './events/fleet-events.ts';
import { agentPayload } from './hosts/bundle.ts';
import { Fleet } from './hosts/fleet.ts';
import { WebSocketLinks } from './hosts/websocket-links.ts';
import { DiskNumbers } from './inventory/disk-numbers.ts';
import { Inventory } from './inventory/inventory.ts';
import { InventoryWriter } from './inventory/inventory-writer.ts';
import { LeftoverWatch } from './inventory/leftover-watch.ts';
import { SpaceHistory } from './inventory/space-history.ts';
import { Collector } from './jobs/collector.ts';
import { base } from './jobs/kinds/base.ts';
import { clone } from './jobs/kinds/clone.ts';
import { free } from './jobs/kinds/free.ts';
import { migrate } from './jobs/kinds/migrate.ts';
import { migrateStream } from './jobs/kinds/migrate-stream.ts';
import { wipe } from './jobs/kinds/wipe.ts';
import { Leases } from './jobs/leases.ts';
import { JobRunner } from './jobs/runner.ts';
import { Uploads } from './jobs/uploads.ts';
import { keyProblems } from './lost-keys.ts';
import { Metrics } from './metrics/metrics.ts';
import { Traffic } from './metrics/traffic.ts';
import { SecretGiver } from './secrets/giver.ts';
import { Passphrases } from './secrets/passphrases.ts';
import { Sealing } from './secrets/sealing.ts';
import { Secrets } from './secrets/secrets.ts';
import { controllerId } from './store/controller-id.ts';
import { SECRETS_KEY } from './store/key-files.ts';
import { openStore } from './store/store.ts';
import { logFields } from './traces/span.ts';
import type { TracesOptions } from './traces/start.ts';

const HOUSEKEEPING_MS = 60_000;
/** So long a copy that no host has any more is known as one: its host may only be away. */
const COPIES_KEPT_MS = 90 * 24 * 3600_000;

export interface ControllerOptions {
  dataDirectory: string;
  /** The path of a SQLite file, or `postgres://…`. */
  store: string;
  host: string;
  port: number;
  logLevel: string;
  /** So many jobs work on one host at a time. */
  jobsPerHost: number;
  /** The API speaks TLS with it; plain HTTP without. */
  certificate?: Certificate;
  /** By which people sign in beside their passwords. */
  openId?: OpenIdOptions;
  /** How people are told of what wants attention, if they are. */
  notify?: WatchOptions;
  /** What is done with the trail. */
  trail: UpkeepOptions;
  /** Where traces are sent, if they are. */
  traces?: TracesOptions;
  /** Under which browsers reach it. */
  publicUrl?: string;
  /** It goes on with keys that are not those of its store, and says so on record. */
  acceptKeys?: boolean;
  /** Addresses and networks of proxies whose `X-Forwarded-For` counts. */
  trustedProxies: readonly string[];
}

/** A running controller. */
export interface Controller {
  services: Services;
  /** Where the API answers. */
  url: string;
  close(): Promise<void>;
}

/** Puts the parts together and starts them. Nothing imports this but the process. */
export async function startController(options: ControllerOptions): Promise<Controller> {
  const { dataDirectory, jobsPerHost } = options;
  mkdirSync(dataDirectory, { recursive: true, mode: 0o700 });
  const logger = pino(
    { level: options.logLevel, serializers: { error: pino.stdSerializers.err }, mixin: logFields },
    pino.destination(2),
  );
  const owner = controllerId(dataDirectory);
  const traces =
    options.traces && (await import('./traces/start.ts')).startTraces(options.traces, owner, logger);
  const store = await openStore(options.store);
  const problems = await keyProblems(store, dataDirectory);
  if (problems.length > 0 && !options.acceptKeys) {
    await store.close();
    throw new StowageError(
      'io-error',
      `the keys in ${dataDirectory} are not those of the store: ${problems.join('; ')}. Put them back from a backup; --accept-keys goes on without what they have signed and sealed`,
    );
  }
  const events = new EventLog(store);
  const audit = new AuditTrail(store, dataDirectory);
  if (problems.length > 0)
    await audit.append({
      ...{
        actor: 'controller',
        source: 'controller',
        action: 'controller.accept-keys',
        target: 'controller',
      },
      ...{ outcome: 'done', detail: problems.join('; ') },
    });
  const inventory = new Inventory(store, events);
  const webSockets = new WebSocketLinks(store, audit, dataDirectory);
  const payload = () => agentPayload(join(dataDirectory, 'cache'));
  const inventoryWriter = new InventoryWriter(store, events);
  const labels = new HostLabels(store);
  await labels.load();
  const fleet = new Fleet({ store, events, inventory: inventoryWriter, webSockets, labels, payload });
  const leases = new Leases(store, owner);
  const secrets = new Secrets(store, labels, dataDirectory);
  const passphrases = new Passphrases(secrets, fleet);
  const traffic = new Traffic();
  const jobs = new JobRunner({
    ...{ store, events, fleet, inventory, audit, passphrases, owner, jobsPerHost },
    carried: (bytes) => traffic.add('job', bytes),
  });
  const uploads = new Uploads({ store, fleet, inventory, leases, jobs, passphrases, owner });
  const revocations = new Revocations();
  const tokens = new Tokens(store, labels, revocations);
  const sessions = new Sessions(store, labels, revocations);
  const users = new Users(store, sessions);
  const sealing = new Sealing(join(dataDirectory, SECRETS_KEY));
  const passkeys = new Passkeys(sealing);
  const account = new Account(store, sessions, sealing, passkeys);
  const spaceHistory = new SpaceHistory(store);
  const upkeep = new TrailUpkeep({ store, trail: audit, logger }, options.trail);
  const attention = new Attention(store, () => upkeep.states);
  const metrics = new Metrics({ fleet, inventory, jobs, events, attention, audit, traffic });
  const diskNumbers = new DiskNumbers(store, fleet);
  const leftovers = new LeftoverWatch({ store, events, fleet, logger });
  const services: Services = {
    ...{ account, audit, fleet, inventory, jobs, leases, secrets, passphrases, sessions, tokens, uploads },
    ...{ attention, diskNumbers, leftovers, metrics, spaceHistory, upkeep, users },
  };
  const doors: Doors = {
    services,
    gate: new Gate(tokens, sessions, audit),
    sealing,
    openId: options.openId && new OpenId(options.openId),
    publicUrl: options.publicUrl,
    isSelfSigned: options.certificate?.selfSigned ?? false,
    signIn: new SignIn({ store, users, sessions, audit, sealing, passkeys }),
    revocations,
    fleetEvents: new FleetEvents({ events, fleet, inventory, jobs }),
    eventReaders: new EventReaders(),
    traffic,
    webSockets,
    sourceOf: sourceThrough(options.trustedProxies),
  };

  jobs.register(migrate);
  jobs.register(clone);
  jobs.register(wipe);
  jobs.register(base);
  jobs.register(free);
  jobs.register(migrateStream);
  const collector = new Collector({ store, fleet, audit, jobs });
  fleet.onReachable = (host) => {
    logger.info({ host }, 'host reachable');
    jobs.wake(host);
  };
  fleet.onTransfers = (host) => collector.hasTransfers(host);
  const giver = new SecretGiver({ secrets, fleet, audit });
  fleet.onAwaitsSecret = (host, pool) => void giver.give(host, pool);
  const watch = options.notify && new AttentionWatch({ store, attention, logger }, options.notify);
  const delivery = new Delivery(store, logger, options.notify?.channels ?? []);
  /** Each by itself: one that fails, such as on a full disk, keeps none of those from their work that free space. */
  const chores: Record<string, () => Promise<unknown>> = {
    'uploads that nobody continues': () => uploads.dropIdle(),
    'old events': () => events.forgetOld(),
    'copies that are gone': () =>
      store.transaction(({ copies }) => copies.forgetGone(clock.now() - COPIES_KEPT_MS)),
    'unused names': () => inventoryWriter.forgetUnusedNames(),
    labels: () => labels.load(),
    'sessions that have ended': () => sessions.forgetExpired(),
    'history of space': () => spaceHistory.note(),
  };
  const keepHouse = async (): Promise<void> => {
    for (const [chore, work] of Object.entries(chores))
      await work().catch((error) => logger.warn({ error, chore }, 'housekeeping failed'));
  };
  const housekeeping = repeat(HOUSEKEEPING_MS, keepHouse);

  const http = await createRestServer(doors, logger, options.certificate);
  await leases.dropOrphans();
  await uploads.dropUnbegun();
  await fleet.start();
  await jobs.start();
  await delivery.start();
  upkeep.start();
  watch?.start();
  const url = await http.listen({ host: options.host, port: options.port });
  return {
    services,
    url,
    async close() {
      housekeeping.stop();
      collector.close();
      leftovers.close();
      watch?.close();
      await delivery.close();
      await jobs.close();
      await fleet.close();
      webSockets.close();
      http.server.closeAllConnections();
      await http.close();
      await upkeep.close();
      await store.close();
      await traces?.close();
    },
  };
}
