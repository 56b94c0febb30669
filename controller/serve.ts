import { execFile } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import { clock, sleep } from '../shared/util/clock.ts';
import { isStowageError, StowageError, toStowageError } from '../shared/util/errors.ts';
import { VERSION } from '../shared/version.ts';
import { ACTIONS } from './actions/index.ts';
import { perform } from './actions/perform.ts';
import { isLoopback } from './auth/network.ts';
import { CONTROLLER } from './auth/principal.ts';
import { STORE_FILE } from './backup.ts';
import { installCommand, quote } from './cli/install.ts';
import { LISTEN_WORDS, listenAddress } from './configuration/listen-address.ts';
import { notifyOptions } from './configuration/notify.ts';
import { openIdOptions } from './configuration/open-id.ts';
import type { Configuration } from './configuration/schema.ts';
import { storeUrl } from './configuration/store-url.ts';
import { tracesOptions } from './configuration/traces.ts';
import { trailOptions } from './configuration/trail.ts';
import { type Controller, startController } from './controller.ts';
import { type Certificate, ownCertificate, readCertificate } from './doors/rest/certificate.ts';
import { LocalAgent } from './hosts/local-agent.ts';
import { MOVED_FILE } from './move-store.ts';
import { controllerId } from './store/controller-id.ts';
import { keepStore } from './store/exclusive.ts';
import { isPostgresUrl } from './store/location.ts';
import { lockData } from './store/lock.ts';

const CLOSE_MS = 10_000;

export interface ServeOptions {
  /** A configuration file, YAML. */
  config?: string;
  publicUrl?: string;
  data: string;
  listen: string;
  localAgent: boolean;
  /** Whether the command `stowage` is put into the data directory. */
  command: boolean;
  logLevel: string;
  jobsPerHost: number;
  tls?: boolean;
  tlsCert?: string;
  tlsKey?: string;
  trustProxy?: string[];
  acceptKeys?: boolean;
}

/**
 * The administrator's token, kept where only its owner can read it: made at the first start, and when it is lost. None where it was
 * revoked, and somebody else is an administrator. It is not shown: a journal keeps what is printed, for many to read.
 */
async function adminToken(
  controller: Controller,
  dataDirectory: string,
): Promise<{ token: string; path: string } | undefined> {
  const path = join(dataDirectory, 'admin-token');
  const { tokens, audit } = controller.services;
  if (existsSync(path)) {
    const known = readFileSync(path, 'utf8').trim();
    const valid = await tokens.authenticate(`Bearer ${known}`).then(
      () => true,
      (error: unknown) => {
        if (isStowageError(error, 'unauthenticated')) return false;
        throw error;
      },
    );
    if (valid) return { token: known, path };
  }
  const secret = await tokens.renewAdmin((transaction, name) =>
    audit.appendIn(transaction, {
      actor: 'controller',
      source: 'controller',
      action: 'token.create',
      target: `token ${name}`,
      outcome: 'done',
      detail: 'at start, as there was none in force',
    }),
  );
  if (secret === undefined) {
    rmSync(path, { force: true });
    return undefined;
  }
  writeFileSync(path, `${secret}\n`, { mode: 0o600 });
  chmodSync(path, 0o600);
  return { token: secret, path };
}

/** Where the first administrator chooses a name and a password; undefined once somebody has. */
async function firstLink(
  { services: { users }, url }: Controller,
  { data, publicUrl }: Pick<ServeOptions, 'data' | 'publicUrl'>,
): Promise<string | undefined> {
  const path = join(data, 'first-link');
  if (!(await users.isEmpty())) {
    rmSync(path, { force: true });
    return undefined;
  }
  const { token } = await users.invite(undefined, { role: 'admin', scopes: [] });
  const link = `${publicUrl ?? url}/welcome#${token}`;
  writeFileSync(path, `${link}\n`, { mode: 0o600 });
  return process.stdout.isTTY
    ? `${link}   (once, for three days: choose your name and password)`
    : `the link of the first administrator is in ${path}`;
}

/** With which the API speaks TLS, if it does. Throws `invalid-argument`. */
export async function certificateOf({
  tls,
  tlsCert,
  tlsKey,
  data,
}: ServeOptions): Promise<Certificate | undefined> {
  if (tlsCert !== undefined && tlsKey !== undefined) return readCertificate(tlsCert, tlsKey);
  if (tlsCert !== undefined || tlsKey !== undefined)
    throw new StowageError('invalid-argument', '--tls-cert and --tls-key come together');
  return tls ? ownCertificate(data) : undefined;
}

/** Waits for the local host and gives it a first pool when it has none. */
async function firstPool(controller: Controller, directory: string): Promise<void> {
  const { fleet, inventory } = controller.services;
  for (let attempt = 0; attempt < 100 && (await fleet.get('local')).state !== 'reachable'; attempt++)
    await sleep(100);
  const agent = await fleet.client('local');
  if ((await agent.json(z.array(z.unknown()), '/v1/pools')).length > 0) return;
  // As anybody does it, so that it is on record.
  const call = { principal: CONTROLLER, source: 'controller', signal: new AbortController().signal };
  const pool = { host: 'local', name: 'default', type: 'dir', target: { path: directory } };
  await perform(controller.services, ACTIONS.get('pool.create')!, pool, call);
  for (
    let attempt = 0;
    attempt < 50 && (await inventory.pools({ host: 'local', limit: 1 })).length === 0;
    attempt++
  )
    await sleep(50);
}

/** Puts the command `stowage` where its user may link to it. Gives its path; undefined where it cannot be put there. */
async function putCommand(data: string): Promise<string | undefined> {
  return installCommand(join(data, 'bin'), data).catch((error: Error) => {
    process.stderr.write(`stowage-controller: the command cannot be put in place: ${error.message}\n`);
    return undefined;
  });
}

/** What to do with the command. */
const wordsOf = (command: string): string => `
  command     ${command}

Then, in another shell:  ${command} pool list
or, from everywhere:     ln -s ${command} /usr/local/bin/stowage`;

/** Says that everything answers, where a unit of systemd waits for that (`Type=notify`). */
async function tellSystemd(): Promise<void> {
  if (process.env.NOTIFY_SOCKET === undefined) return;
  await promisify(execFile)('systemd-notify', ['--ready']).catch((error: Error) => {
    process.stderr.write(`stowage-controller: systemd is not told that it is ready: ${error.message}\n`);
  });
  // No child is believed from now on.
  delete process.env.NOTIFY_SOCKET;
}

/** Runs the controller, with what only its file can say in `configuration`, until it gets SIGTERM or SIGINT. */
export async function serve(given: ServeOptions, configuration: Configuration): Promise<void> {
  const options = {
    ...given,
    data: resolve(given.data),
    publicUrl: given.publicUrl?.replace(/\/$/, ''),
  };
  const listen = listenAddress(options.listen);
  if (!listen) throw new StowageError('invalid-argument', `${LISTEN_WORDS}, and not '${options.listen}'`);
  mkdirSync(options.data, { recursive: true, mode: 0o700 });
  // What has been begun ends in the opposite order, also where the start fails.
  await using begun = new AsyncDisposableStack();
  begun.defer(lockData(options.data));
  const openId = openIdOptions(process.env, configuration);
  const notify = notifyOptions({ ...configuration, 'public-url': options.publicUrl });
  const trail = trailOptions(configuration, controllerId(options.data));
  const traces = tracesOptions(process.env, configuration);
  const certificate = await certificateOf(options);
  const store = storeUrl(process.env, configuration) ?? join(options.data, STORE_FILE);
  const moved = join(options.data, MOVED_FILE);
  if (!isPostgresUrl(store) && !existsSync(store) && existsSync(moved))
    throw new StowageError(
      'invalid-argument',
      `the store of this directory was moved to PostgreSQL: set STOWAGE_STORE or \`store-file\`, or, to go back, rename ${moved} to ${STORE_FILE}`,
    );
  begun.defer(
    await keepStore(store, (reason) => {
      process.stderr.write(`stowage-controller: ${reason}\n`);
      process.exit(1);
    }),
  );
  const localAgent = options.localAgent ? new LocalAgent(join(options.data, 'agent')) : undefined;
  begun.defer(() => localAgent?.stop());
  await localAgent?.start();
  const controller = await startController({
    dataDirectory: options.data,
    ...listen,
    logLevel: options.logLevel,
    jobsPerHost: options.jobsPerHost,
    certificate,
    openId,
    notify,
    trail,
    traces,
    publicUrl: options.publicUrl,
    trustedProxies: options.trustProxy ?? [],
    acceptKeys: options.acceptKeys,
    store,
  });
  begun.defer(() => controller.close());
  // What is recorded goes on at the next start; nothing that does not answer keeps us.
  begun.defer(() => void clock.after(CLOSE_MS, () => process.exit(1), false));
  const admin = await adminToken(controller, options.data);
  const fingerprint = certificate?.selfSigned ? certificate.fingerprint : undefined;
  const client = {
    url: controller.url,
    token: admin?.token,
    fingerprint: certificate?.fingerprint,
    publicUrl: options.publicUrl,
  };
  const clientFile = join(options.data, 'client.json');
  writeFileSync(`${clientFile}.new`, JSON.stringify(client), { mode: 0o600 });
  renameSync(`${clientFile}.new`, clientFile);
  if (localAgent) {
    await controller.services.fleet.addLocal('local', localAgent.socket);
    await firstPool(controller, join(options.data, 'pools/default')).catch((error) => {
      process.stderr.write(
        `stowage-controller: the first pool cannot be made: ${toStowageError(error).message}; see: stowage pool create\n`,
      );
    });
  }
  const command = options.command ? await putCommand(options.data) : undefined;
  const link = await firstLink(controller, options);
  const running = begun.move();
  const stop = async (): Promise<void> => {
    await running.disposeAsync();
    process.exit(0);
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void stop());
  console.log(`Stowage ${VERSION} is running.

  page        ${link ?? options.publicUrl ?? controller.url}
  data        ${options.data}
  API         ${controller.url}/api/v1   (OpenAPI: ${controller.url}/api/v1/openapi.json)

  export STOWAGE_URL=${controller.url}
${admin ? `  export STOWAGE_TOKEN="$(cat ${quote(admin.path)})"` : "  the administrator's token of this machine was revoked: set STOWAGE_TOKEN to one of your own"}${fingerprint ? `\n  export STOWAGE_FINGERPRINT=${fingerprint}` : ''}${command === undefined ? '' : `\n${wordsOf(command)}`}`);
  if (!certificate && !isLoopback(listen.host) && !options.publicUrl?.startsWith('https:'))
    process.stderr.write(
      'stowage-controller: passwords and tokens pass unprotected: use --tls, or listen on 127.0.0.1 behind a proxy that speaks TLS\n',
    );
  await tellSystemd();
}
