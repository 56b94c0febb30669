import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { generateKeyPairSync, randomBytes, X509Certificate } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, request } from 'node:https';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { generate } from 'selfsigned';
import type { AuditRecord } from '../../shared/protocol/api.ts';
import { execute, TestController, until } from '../support/controller.ts';
import { freePort } from '../support/hosts.ts';
import { scratch } from '../support/scratch.ts';

const room = scratch();
const file = (name: string): string => join(room.path, name);
let controller: TestController;
let fingerprint = '';

before(async () => {
  controller = await TestController.start(file('data'), ['--tls', '--trust-proxy', '127.0.0.1'], {});
  const client = JSON.parse(readFileSync(file('data/client.json'), 'utf8')) as { fingerprint: string };
  fingerprint = client.fingerprint;
});
after(async () => {
  await controller[Symbol.asyncDispose]();
  await room[Symbol.asyncDispose]();
});

const cli = (env: NodeJS.ProcessEnv, ...args: string[]) =>
  controller.cliIn({ STOWAGE_FINGERPRINT: fingerprint, ...env }, ...args);

describe('a controller that vouches for itself', () => {
  test('is known by its fingerprint, with all that the command does', async () => {
    assert.match(controller.url, /^https:/);
    const certificate = new X509Certificate(readFileSync(file('data/tls.pem')));
    assert.equal(certificate.fingerprint256, fingerprint);
    const image = file('image');
    writeFileSync(image, randomBytes(6 << 20));
    for (const args of [
      ['vol', 'upload', image, 'local/default/v'],
      ['vol', 'upload', image, 'local/default/w', '--through-controller'],
      ['vol', 'download', 'local/default/v', file('back')],
      ['vol', 'clone', 'local/default/v', 'x'],
      ['pool', 'dumpxml', 'local/default'],
      ['audit', 'verify'],
    ]) {
      const { status, stderr } = await cli({}, ...args);
      assert.equal(status, 0, `${args.join(' ')}: ${stderr}`);
    }
    assert.ok(readFileSync(file('back')).equals(readFileSync(image)));
    // Whoever started it needs to say nothing.
    const own = { STOWAGE_DATA: file('data'), STOWAGE_URL: '', STOWAGE_TOKEN: '', STOWAGE_FINGERPRINT: '' };
    const env = { ...process.env, ...own };
    for (const name of Object.keys(own)) if (name !== 'STOWAGE_DATA') delete (env as NodeJS.ProcessEnv)[name];
    const listed = await execute(process.execPath, ['controller/cli/stowage.ts', 'pool', 'list', '-q'], env);
    assert.equal(listed.stdout.trim(), 'local/default', listed.stderr);
  });

  test('is told from another, to which nothing is sent', async () => {
    const { cert, private: key } = await generate([{ name: 'commonName', value: 'localhost' }], {
      keyType: 'ec',
    });
    let asked = 0;
    const thief = createServer({ cert, key }, (_request, response) => {
      asked++;
      response.end('[]');
    });
    const port = await freePort();
    await new Promise<void>((done) => thief.listen(port, '127.0.0.1', done));
    const STOWAGE_URL = `https://127.0.0.1:${port}`;
    const fooled = await cli({ STOWAGE_URL }, 'pool', 'list');
    assert.equal(fooled.status, 1);
    assert.match(fooled.stderr, /nothing was sent \[host-key-mismatch\]/);
    const unpinned = await controller.cliIn({ STOWAGE_FINGERPRINT: undefined }, 'pool', 'list');
    assert.equal(unpinned.status, 6);
    assert.match(unpinned.stderr, /set STOWAGE_FINGERPRINT/);
    assert.equal(asked, 0);
    thief.close();
  });

  test('agents dial in to it, by what host token says', async () => {
    const text = (await cli({}, 'host', 'token', 'far')).stdout;
    const [, token] = /^token +(\S+)/.exec(text)!;
    const directory = file('far');
    mkdirSync(directory);
    writeFileSync(join(directory, 'token'), `${token}\n`);
    const lines = text.split('\n').filter((line) => /^ {2}(curl|sha256sum)|^[0-9a-f]{64} |^END$/.test(line));
    const script = `set -e; cd ${directory}; ${lines.map((line) => line.trim()).join('\n')}`;
    const fetched = await execute('bash', ['-c', script]);
    assert.equal(fetched.status, 0, fetched.stderr);
    const agent = execFile(
      process.execPath,
      [
        'stowage-agent.mjs',
        'connect',
        controller.url,
        '--token-file',
        'token',
        '--state',
        join(directory, 'state'),
      ],
      { cwd: directory },
    );
    await until('it is there', async () =>
      /far +websocket +reachable/.test((await cli({}, 'host', 'list')).stdout),
    );
    const pool = await cli(
      {},
      'pool',
      'create',
      'far/p',
      '--type',
      'dir',
      '--target',
      join(directory, 'pool'),
    );
    assert.equal(pool.status, 0, pool.stderr);
    const ended = new Promise((done) => agent.once('exit', done));
    agent.kill('SIGTERM');
    await ended;
  });

  test('the trail has the address that a trusted proxy tells, and no other', async () => {
    const ca = readFileSync(file('data/tls.pem'));
    const ask = (forwarded: string): Promise<number> =>
      new Promise((resolve, reject) => {
        request(
          `${controller.url}/api/v1/audit?limit=1`,
          {
            ca,
            checkServerIdentity: () => undefined,
            headers: { authorization: `Bearer ${controller.token}`, 'x-forwarded-for': forwarded },
          },
          (response) => {
            response.resume().once('end', () => resolve(response.statusCode!));
          },
        )
          .once('error', reject)
          .end();
      });
    // What a client says before the proxy adds its own word counts for nothing.
    assert.equal(await ask('198.51.100.7, 192.0.2.44'), 200);
    const trail = JSON.parse(
      (await cli({}, 'audit', 'list', '--limit', '6', '-o', 'json')).stdout,
    ) as AuditRecord[];
    assert.ok(trail.some(({ source }) => source === '192.0.2.44'));
    assert.ok(!trail.some(({ source }) => source === '198.51.100.7'));
  });
});

test('certificates of an authority come from files; broken ones are told at the start', async () => {
  const { cert, private: key } = await generate([{ name: 'commonName', value: 'localhost' }], {
    keyType: 'ec',
  });
  writeFileSync(file('cert.pem'), cert);
  writeFileSync(file('key.pem'), key);
  writeFileSync(
    file('other.pem'),
    generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }),
  );
  const start = (...args: string[]) =>
    execute(process.execPath, [
      'controller/main.ts',
      '--data',
      file('broken'),
      '--listen',
      '127.0.0.1:0',
      '--no-local-agent',
      ...args,
    ]);
  for (const [args, words] of [
    [['--tls-cert', file('cert.pem')], /come together/],
    [['--tls-cert', file('none.pem'), '--tls-key', file('key.pem')], /the certificate cannot be used/],
    [['--tls-cert', file('cert.pem'), '--tls-key', file('other.pem')], /the certificate cannot be used/],
  ] as [string[], RegExp][]) {
    const { status, stderr } = await start(...args);
    assert.equal(status, 1, stderr);
    assert.match(stderr, words);
  }
  await using given = await TestController.start(file('given'), [
    '--no-local-agent',
    ...['--tls-cert', file('cert.pem'), '--tls-key', file('key.pem')],
  ]);
  const { status, stderr } = await given.cliIn(
    { NODE_EXTRA_CA_CERTS: file('cert.pem'), STOWAGE_URL: given.url.replace('127.0.0.1', 'localhost') },
    'host',
    'list',
  );
  assert.equal(status, 0, stderr);
});

test('on its own machine the command knows it by its certificate, whatever the name in it; others are told the public URL', async () => {
  const authority = await generate([{ name: 'commonName', value: 'an authority' }], {
    keyType: 'ec',
    extensions: [{ name: 'basicConstraints', cA: true, critical: true }],
  });
  const { cert, private: key } = await generate([{ name: 'commonName', value: 'storage.example' }], {
    keyType: 'ec',
    ca: { key: authority.private, cert: authority.cert },
    extensions: [{ name: 'subjectAltName', altNames: [{ type: 2, value: 'storage.example' }] }],
  });
  writeFileSync(file('leaf.pem'), cert);
  writeFileSync(file('leaf-key.pem'), key);
  await using published = await TestController.start(file('public'), [
    ...['--no-local-agent', '--public-url', 'https://storage.example:7070'],
    ...['--tls-cert', file('leaf.pem'), '--tls-key', file('leaf-key.pem')],
  ]);
  assert.match(published.url, /^https:\/\/127/);
  const env: NodeJS.ProcessEnv = { ...process.env, STOWAGE_DATA: file('public') };
  for (const name of ['STOWAGE_URL', 'STOWAGE_TOKEN', 'STOWAGE_FINGERPRINT']) delete env[name];
  const told = await execute(process.execPath, ['controller/cli/stowage.ts', 'host', 'token', 'gamma'], env);
  assert.equal(told.status, 0, told.stderr);
  assert.match(told.stdout, /STOWAGE_CONTROLLER=https:\/\/storage\.example:7070 /);
  assert.match(told.stdout, /curl -fsSO https:\/\/storage\.example:7070\//, 'an authority vouches for it');
});
