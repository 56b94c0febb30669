import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TestController, until } from '../support/controller.ts';
import { startHost, type TestHost } from '../support/hosts.ts';
import { makeImage } from '../support/migration.ts';
import { isRoot, scratch, sha256 } from '../support/scratch.ts';

/** The story of the README on three hosts, told as it happens. */
const room = scratch();
const closing: (() => unknown)[] = [];

const say = (text: string): void => console.log(`\n\u001b[1m# ${text}\u001b[0m`);

async function tour(): Promise<void> {
  say('A controller, and three hosts: two are reached by SSH, the third dials in.');
  const controller = await TestController.start(join(room.path, 'controller'));
  closing.push(() => controller[Symbol.asyncDispose]());
  const stowage = async (...args: string[]): Promise<string> => {
    console.log(`$ stowage ${args.join(' ').replaceAll(room.path, '…')}`);
    const { status, stdout, stderr } = await controller.cli(...args);
    process.stdout.write(`${stdout}${stderr}`.replaceAll(room.path, '…'));
    if (status !== 0) console.log(`(exit status ${status})`);
    return stdout;
  };
  const hosts: TestHost[] = [];
  for (const name of ['alpha', 'beta']) {
    const host = await startHost(join(room.path, name));
    closing.push(() => host[Symbol.asyncDispose]());
    hosts.push(host);
    await stowage(
      'host',
      'add',
      name,
      `ssh://${host.user}@${host.address}:${host.port}`,
      '--identity',
      host.identity,
      '--fingerprint',
      host.fingerprint,
    );
  }
  const beta = hosts[1]!;

  const { token } = JSON.parse((await controller.cli('host', 'token', 'gamma', '--json')).stdout) as {
    token: string;
  };
  mkdirSync(join(room.path, 'gamma'));
  writeFileSync(join(room.path, 'gamma/token'), token, { mode: 0o600 });
  console.log(
    '$ stowage host token gamma\n$ stowage-agent connect CONTROLLER --token-file token      # on gamma',
  );
  const agent = spawn(
    process.execPath,
    [
      'agent/main.ts',
      'connect',
      controller.url,
      '--state',
      join(room.path, 'gamma'),
      '--token-file',
      join(room.path, 'gamma/token'),
    ],
    { stdio: 'ignore' },
  );
  closing.push(() => agent.kill());
  await until('gamma dials in', async () =>
    (await controller.cliOk('host', 'list')).match(/gamma\s+websocket\s+reachable/),
  );
  await stowage('host', 'list');

  say('A pool on each, in one inventory.');
  for (const name of ['alpha', 'beta', 'gamma'])
    await stowage(
      'pool',
      'create',
      `${name}/data`,
      '--type',
      'dir',
      '--target',
      join(room.path, name, 'pool'),
    );
  await stowage('pool', 'list');

  say('An image goes up: 512 MiB of which 96 hold data. Holes do not travel.');
  const image = join(room.path, 'image.raw');
  const digest = await makeImage(image, 512, 96);
  await stowage('vol', 'upload', image, 'alpha/data/web');
  await stowage('vol', 'clone', 'alpha/data/web', 'web-copy');
  await stowage('vol', 'list');

  say('By content it becomes a ploop volume on another host; then it gets a snapshot.');
  await stowage('vol', 'migrate', 'alpha/data/web-copy', 'beta/data/ct101', '--format', 'ploop');
  await stowage('vol', 'snapshot', 'create', 'beta/data/ct101');

  say(`The ploop volume moves to gamma, slowly${isRoot ? ', and beta’s cable is pulled on the way' : ''}.`);
  await stowage('vol', 'migrate', 'beta/data/ct101', 'gamma/data', '--limit', '10M', '--no-wait');
  const [job] = await controller.api<{ id: number }[]>('/jobs?limit=1');
  await sleep(1500);
  await stowage('vol', 'delete', 'beta/data/ct101');
  if (isRoot) {
    beta.cut();
    console.log('(the cable is out)');
    await sleep(2500);
    beta.heal();
    console.log('(the cable is in again)');
  }
  await controller.ended(job!.id);
  await stowage('job', 'show', String(job!.id));
  await stowage('vol', 'list');

  say('It is the same volume, to the last byte.');
  const back = join(room.path, 'back.raw');
  await stowage('vol', 'download', 'gamma/data/ct101', back, '--as', 'content');
  console.log(`sha256 before ${digest}\nsha256 after  ${await sha256(back)}`);

  say('Who did what, in a chain that cannot be changed unseen.');
  await stowage('audit', 'list', '--limit', '12');
  await stowage('audit', 'verify');
}

try {
  await tour();
} finally {
  for (const close of closing.reverse()) await close();
  await room[Symbol.asyncDispose]();
}
process.exit(0);
