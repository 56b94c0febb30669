#!/usr/bin/env node

import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { Command } from 'commander';
import { z } from 'zod';
import { ROLES, type Role } from '../shared/protocol/rights.ts';
import { clock, sleep } from '../shared/util/clock.ts';
import { isStowageError, StowageError, toStowageError } from '../shared/util/errors.ts';
import { VERSION } from '../shared/version.ts';
import { ACTIONS } from './actions/index.ts';
import { perform } from './actions/perform.ts';
import { AuditTrail } from './audit/trail.ts';
import type { OpenIdOptions } from './auth/open-id.ts';
import { CONTROLLER } from './auth/principal.ts';
import { backup, restore, STORE_FILE } from './backup.ts';
import { installCommand, quote } from './cli/install.ts';
import { count } from './cli/numbers.ts';
import { type Controller, startController } from './controller.ts';
import { type Certificate, ownCertificate, readCertificate } from './doors/rest/certificate.ts';
import { LocalAgent } from './hosts/local-agent.ts';
import { copyStore } from './store/copy.ts';
import { keepStore } from './store/exclusive.ts';
import { isPostgresUrl } from './store/location.ts';
import { lockData } from './store/lock.ts';
import { openStore } from './store/store.ts';

const CLOSE_MS = 10_000;
/** What it is called after it was copied to PostgreSQL. */
const MOVED_FILE = 'stowage.db.moved';
const DEFAULT_DATA = process.env.STOWAGE_DATA ?? join(homedir(), '.local/share/stowage');

/** `postgres://…`, or nothing. It may hold a password: only the environment, which is the controller's own, says it. */
function storeUrl(): string | undefined {
  const url = process.env.STOWAGE_STORE;
  if (url === undefined || url === '') return undefined;
  if (isPostgresUrl(url)) return url;
  throw new StowageError('invalid-argument', 'STOWAGE_STORE is no postgres:// URL');
}

/** The OpenID provider, if there is one. Its secret lies in a file: what stands in the environment many can read. */
function openIdOptions(env: NodeJS.ProcessEnv): OpenIdOptions | undefined {
  const issuer = env.STOWAGE_OIDC_ISSUER;
  if (!issuer) return undefined;
  const needed = (name: string): string => {
    const value = env[name];
    if (value) return value;
    throw new StowageError('invalid-argument', `STOWAGE_OIDC_ISSUER is set, and needs ${name}`);
  };
  if (!URL.canParse(issuer))
    throw new StowageError('invalid-argument', `STOWAGE_OIDC_ISSUER is '${issuer}', which is no URL`);
  const groupsOf = (role: Role): string[] =>
    (env[`STOWAGE_OIDC_${role.toUpperCase()}S`] ?? '').split(',').flatMap((group) => group.trim() || []);
  const groups = { viewer: groupsOf('viewer'), operator: groupsOf('operator'), admin: groupsOf('admin') };
  if (ROLES.every((role) => groups[role].length === 0))
    throw new StowageError(
      'invalid-argument',
      'STOWAGE_OIDC_ISSUER is set, and nobody could sign in: name groups in STOWAGE_OIDC_VIEWERS, _OPERATORS or _ADMINS',
    );
  return {
    ...{ issuer, groups, clientId: needed('STOWAGE_OIDC_CLIENT_ID') },
    clientSecret: readFileSync(needed('STOWAGE_OIDC_CLIENT_SECRET_FILE'), 'utf8').trim(),
  };
}

interface Options {
  publicUrl?: string;
  data: string;
  listen: string;
  localAgent: boolean;
  logLevel: string;
  jobsPerHost: number;
  tls?: boolean;
  tlsCert?: string;
  tlsKey?: string;
  trustProxy?: string;
}

/**
 * The administrator's token, kept where only its owner can read it: made at the first start, and when it is in force no more.
 * Only then it is shown.
 */
async function adminToken(
  controller: Controller,
  dataDirectory: string,
): Promise<{ token: string; path: string; isNew: boolean }> {
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
    if (valid) return { token: known, path, isNew: false };
  }
  const secret = await tokens.replace({ name: 'admin', role: 'admin', scopes: [] }, (transaction) =>
    audit.appendIn(transaction, {
      actor: 'controller',
      source: 'controller',
      action: 'token.create',
      target: 'token admin',
      outcome: 'done',
      detail: 'at start, as there was none in force',
    }),
  );
  writeFileSync(path, `${secret}\n`, { mode: 0o600 });
  chmodSync(path, 0o600);
  return { token: secret, path, isNew: true };
}

/** Where the first administrator chooses a name and a password; undefined once somebody has. */
async function firstLink(
  { services: { users }, url }: Controller,
  { data, publicUrl }: Pick<Options, 'data' | 'publicUrl'>,
): Promise<string | undefined> {
  const path = join(data, 'first-link');
  if (!(await users.isEmpty())) {
    rmSync(path, { force: true });
    return undefined;
  }
  const { token } = await users.invite(undefined, { role: 'admin', scopes: [] });
  const link = `${publicUrl ?? url}/welcome#${token}`;
  // A journal keeps what is printed, for many to read.
  writeFileSync(path, `${link}\n`, { mode: 0o600 });
  return process.stdout.isTTY
    ? `${link}   (once, for three days: choose your name and password)`
    : `the link of the first administrator is in ${path}`;
}

/** With which the API speaks TLS, if it does. */
async function certificateOf({ tls, tlsCert, tlsKey, data }: Options): Promise<Certificate | undefined> {
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

async function serve(given: Options): Promise<void> {
  const options = {
    ...given,
    data: resolve(given.data),
    publicUrl: given.publicUrl?.replace(/\/$/, ''),
  };
  const listen = /^(.+):(\d{1,5})$/.exec(options.listen);
  if (!listen)
    throw new StowageError(
      'invalid-argument',
      `where to listen is HOST:PORT, such as 127.0.0.1:7070, and not '${options.listen}'`,
    );
  const [, host = '', port = ''] = listen;
  mkdirSync(options.data, { recursive: true, mode: 0o700 });
  const unlock = lockData(options.data);
  const openId = openIdOptions(process.env);
  const certificate = await certificateOf(options);
  const store = storeUrl() ?? join(options.data, STORE_FILE);
  const moved = join(options.data, MOVED_FILE);
  if (!isPostgresUrl(store) && !existsSync(store) && existsSync(moved))
    throw new StowageError(
      'invalid-argument',
      `the store of this directory was moved to PostgreSQL: set STOWAGE_STORE, or, to go back, rename ${moved} to ${STORE_FILE}`,
    );
  const letGo = await keepStore(store, (reason) => {
    process.stderr.write(`stowage-controller: ${reason}\n`);
    process.exit(1);
  });
  const localAgent = options.localAgent ? new LocalAgent(join(options.data, 'agent')) : undefined;
  await localAgent?.start();
  const controller = await startController({
    dataDirectory: options.data,
    host,
    port: Number(port),
    logLevel: options.logLevel,
    jobsPerHost: options.jobsPerHost,
    certificate,
    openId,
    publicUrl: options.publicUrl,
    trustedProxies: options.trustProxy?.split(',').map((each) => each.trim()) ?? [],
    store,
  }).catch(async (error) => {
    // Nobody would be there to end it.
    await localAgent?.stop();
    throw error;
  });
  const { token, path: tokenPath, isNew } = await adminToken(controller, options.data);
  const fingerprint = certificate?.selfSigned ? certificate.fingerprint : undefined;
  const client = JSON.stringify({ url: controller.url, token, fingerprint });
  writeFileSync(join(options.data, 'client.json'), client, { mode: 0o600 });
  if (localAgent) {
    await controller.services.fleet.addLocal('local', localAgent.socket);
    await firstPool(controller, join(options.data, 'pools/default'));
  }
  const command = await installCommand(join(options.data, 'bin')).catch((error: Error) => {
    process.stderr.write(`stowage-controller: the command cannot be put in place: ${error.message}\n`);
    return 'npx stowage';
  });
  const link = await firstLink(controller, options);
  console.log(`Stowage ${VERSION} is running.

  page        ${link ?? controller.url}
  data        ${options.data}
  API         ${controller.url}/api/v1   (OpenAPI: ${controller.url}/api/v1/openapi.json)

  export STOWAGE_URL=${controller.url}
  export STOWAGE_TOKEN=${isNew ? token : `"$(cat ${quote(tokenPath)})"`}${fingerprint ? `\n  export STOWAGE_FINGERPRINT=${fingerprint}` : ''}

  command     ${command}

Then, in another shell:  npx stowage pool list
or, from everywhere:     ln -s ${command} /usr/local/bin/stowage`);
  const stop = async (): Promise<void> => {
    // What is recorded goes on at the next start; nothing that does not answer keeps us.
    clock.after(CLOSE_MS, () => process.exit(1), false);
    await controller.close();
    await localAgent?.stop();
    await letGo();
    unlock();
    process.exit(0);
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void stop());
}

/** Moves what a data directory has in SQLite to the PostgreSQL that `STOWAGE_STORE` names. */
async function moveStore({ data }: { data: string }): Promise<void> {
  const directory = resolve(data);
  const target = storeUrl();
  if (target === undefined)
    throw new StowageError('invalid-argument', 'set STOWAGE_STORE to the postgres:// URL to copy to');
  const path = join(directory, STORE_FILE);
  if (!existsSync(path)) throw new StowageError('invalid-argument', `there is no store at ${path}`);
  const unlock = lockData(directory);
  await using stack = new AsyncDisposableStack();
  stack.defer(unlock);
  const from = await openStore(path);
  stack.defer(() => from.close().catch(() => undefined));
  stack.defer(await keepStore(target, () => undefined));
  const to = await openStore(target);
  stack.defer(() => to.close());
  const before = await new AuditTrail(from, directory).verify();
  const counts = await copyStore(from, to, async (copy) => {
    const after = await new AuditTrail(copy, directory).verify();
    if (!after.ok || after.head?.hash !== before.head?.hash)
      throw new StowageError(
        'io-error',
        `the trail is not whole in the copy: ${after.reason ?? 'it ends elsewhere'}`,
      );
  });
  // Closed, it is one file; nobody goes on from it by mistake.
  await from.close();
  renameSync(path, join(directory, MOVED_FILE));
  for (const [table, count] of Object.entries(counts)) console.log(`${String(count).padStart(9)}  ${table}`);
  console.log(
    `the trail is whole: ${before.records} records, signed up to ${before.head?.hash.slice(0, 16)}`,
  );
  console.log(`the store that was copied is ${path}.moved now`);
}

const program = new Command('stowage-controller')
  .description('the controller: inventory, transfers, jobs and audit of a fleet')
  .version(VERSION)
  .option('--data <dir>', 'where everything is kept', DEFAULT_DATA)
  .option('--listen <host:port>', 'where the API answers', process.env.STOWAGE_LISTEN ?? '127.0.0.1:7070')
  .option('--no-local-agent', 'run no agent on this machine')
  .option('--jobs-per-host <count>', 'jobs that work on a host at a time', count, 2)
  .option('--tls', 'speak TLS, with a certificate of our own, which clients know by its fingerprint')
  .option('--tls-cert <file>', 'speak TLS with this certificate, PEM, the chain behind it')
  .option('--tls-key <file>', 'its key, PEM')
  .option(
    '--public-url <url>',
    'under which browsers reach it, such as https://storage.example; as they ask for it when not given',
  )
  .option('--trust-proxy <addresses>', 'proxies whose X-Forwarded-For counts, such as 127.0.0.1,10.0.0.0/8')
  .option('--log-level <level>', 'of the JSON log on standard error', process.env.STOWAGE_LOG ?? 'warn')
  .addHelpText(
    'after',
    '\nSTOWAGE_STORE=postgres://USER:PASSWORD@HOST/DATABASE keeps the store in PostgreSQL; it is read from the environment only.',
  )
  .action(serve);
program
  .command('store')
  .description('the store of the controller')
  .command('copy')
  .description(
    'copy the SQLite store to the empty PostgreSQL database that STOWAGE_STORE names, and check the trail there',
  )
  .action(() => moveStore(program.opts()));
const stateOf = ({ records, head }: { records: number; head?: string }): string =>
  `the trail is whole: ${records} records, signed up to ${head?.slice(0, 16) ?? 'nothing'}`;
program
  .command('backup <directory>')
  .description(
    'copy store and keys into a new directory, while the controller works or not, and check the trail there',
  )
  .action(async (directory: string) => {
    console.log(stateOf(await backup(resolve(program.opts().data), resolve(directory))));
  });
program
  .command('restore <backup>')
  .description('make the data directory, which must be empty or not there, of a backup that is whole')
  .action(async (directory: string) => {
    const { data } = program.opts();
    console.log(stateOf(await restore(resolve(directory), resolve(data))));
  });
/** What to do where the place to listen at is another's. */
const hintOf = ({ code }: NodeJS.ErrnoException): string =>
  code === 'EADDRINUSE' ? '; another address: --listen HOST:PORT, or STOWAGE_LISTEN' : '';

program.parseAsync().catch((error) => {
  process.stderr.write(`stowage-controller: ${toStowageError(error).message}${hintOf(error)}\n`);
  process.exit(1);
});
