import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { parse } from 'yaml';
import { execute, TestController, until } from '../support/controller.ts';
import { freePort } from '../support/hosts.ts';
import { openRoad, type RoadOptions } from '../support/road.ts';
import { scratch } from '../support/scratch.ts';
import { atTerminal } from '../support/terminal.ts';

const MIB = 1 << 20;
const run = promisify(execFile);

describe('the command line', () => {
  const room = scratch();
  let controller: TestController;

  before(async () => {
    controller = await TestController.start(join(room.path, 'data'), [], {}, true);
    await controller.cliOk('vol', 'create', 'local/default/small', '--capacity', '1M');
    await controller.cliOk('vol', 'create', 'local/default/large', '--capacity', '9M', '--format', 'qcow2');
  });
  after(async () => {
    await controller[Symbol.asyncDispose]();
    await room[Symbol.asyncDispose]();
  });

  const list = (...args: string[]): Promise<string> => controller.cliOk('vol', 'list', ...args);
  /** As somebody who put the installed command on the PATH. */
  const environment = (): NodeJS.ProcessEnv => ({
    ...process.env,
    PATH: `${join(controller.directory, 'bin')}:${process.env.PATH}`,
    STOWAGE_URL: controller.url,
    STOWAGE_TOKEN: controller.token,
  });

  test('lists as tables, documents, CSV and names, sorted and by columns', async () => {
    assert.match(await list(), /VOLUME +FORMAT[\s\S]*local\/default\/small +raw +1\.00 MiB/);
    assert.match(await list('-o', 'wide'), /ID\n/);
    assert.equal(await list('-o', 'name'), 'local/default/large\nlocal/default/small\n');
    assert.equal(await list('-q'), await list('-o', 'name'));
    const rows = parse(await list('-o', 'yaml')) as { name: string }[];
    assert.deepEqual(rows, JSON.parse(await list('--json')));
    assert.equal(
      await list('-o', 'csv', '--columns', 'volume,capacity', '--sort', '-capacity'),
      `volume,capacity\nlocal/default/large,${9 * MIB}\nlocal/default/small,${MIB}\n`,
    );
    assert.equal(await list('--format', 'qcow2', '-q'), 'local/default/large\n');
    assert.match(
      await controller.cliRefused('invalid-argument', 'vol', 'list', '--sort', 'sise'),
      /volume, format/,
    );
    assert.match(
      await controller.cliRefused('invalid-argument', 'vol', 'delete', 'local/default/small', '-o', 'csv'),
      /for lists/,
    );
    assert.match(await list('-q'), /small/);
    assert.doesNotMatch(await list('--no-headers'), /VOLUME/);
    assert.match(await list('--no-headers'), /^local\/default\/large +qcow2/);
    assert.equal(
      await list('-o', 'csv', '--columns', 'volume', '--no-headers'),
      'local/default/large\nlocal/default/small\n',
    );
    assert.equal(await list('--search', 'MAL', '-q'), 'local/default/small\n');
    assert.equal(await list('--search', 'x', '--no-headers'), '');
    assert.equal(await list('--newer-than', '1h', '-q'), await list('-q'));
    assert.equal(await list('--older-than', '1h', '-q'), '');
    await controller.cliRefused('invalid-argument', 'vol', 'list', '--older-than', 'soon');
  });

  test('says how the fleet is and who asks', async () => {
    const status = await controller.cliOk('status');
    assert.match(status, /you are +admin, admin\nhosts +1 reachable\npools +1 running\nvolumes +2\n/);
  });

  test('grows a volume by a difference', async () => {
    const capacity = async () =>
      (await controller.api<{ capacityBytes: number }>('/hosts/local/pools/default/volumes/small'))
        .capacityBytes;
    await controller.cliOk('vol', 'resize', 'local/default/small', '+1M');
    assert.equal(await capacity(), 2 * MIB);
    await controller.api('/hosts/local/pools/default/volumes/small/resize', {
      ...{ capacityBytes: MIB, delta: true, shrink: true },
    });
    assert.equal(await capacity(), MIB);
    await controller.cliRefused(
      'invalid-argument',
      'vol',
      'resize',
      'local/default/small',
      '+1M',
      '--shrink',
    );
  });

  test('warns of volumes that may outgrow their pool', async () => {
    const { capacityBytes } = await controller.api<{ capacityBytes: number }>('/hosts/local/pools/default');
    const { status, stderr } = await controller.cli(
      ...['vol', 'create', 'local/default/huge', '--capacity', String(capacityBytes)],
    );
    assert.equal(status, 0);
    assert.match(stderr, /^warning: the volumes of pool local\/default may grow to .* together, it has /);
    // The pool is told of a moment after its volume.
    await until('the pool has promised all of it', async () => {
      const pool = await controller.api<{ provisionedBytes?: number }>('/hosts/local/pools/default');
      return (pool.provisionedBytes ?? 0) > capacityBytes;
    });
    const { stderr: grown } = await controller.cli('vol', 'resize', 'local/default/small', '+1M');
    assert.match(grown, /^warning: the volumes of pool local\/default may grow to /);
    const { stderr: shrunk } = await controller.cli(
      ...['vol', 'resize', 'local/default/small', '1M', '--shrink'],
    );
    assert.equal(shrunk, '');
    await controller.cliOk('vol', 'delete', 'local/default/huge');
  });

  test('grows a volume that somebody has put there this moment', async () => {
    const { target } = await controller.api<{ target: { path: string } }>('/hosts/local/pools/default');
    writeFileSync(join(target.path, 'fresh'), Buffer.alloc(MIB));
    const grown = await controller.api<{ capacityBytes: number }>(
      '/hosts/local/pools/default/volumes/fresh/resize',
      { capacityBytes: 2 * MIB },
    );
    assert.equal(grown.capacityBytes, 2 * MIB);
    await controller.cliOk('vol', 'delete', 'local/default/fresh');
  });

  test('deletes several volumes, and names those that it cannot', async () => {
    for (const name of ['one', 'two'])
      await controller.cliOk('vol', 'create', `local/default/${name}`, '--capacity', '1M');
    const { status, stdout, stderr } = await controller.cli(
      ...['vol', 'delete', 'local/default/one', 'local/default/none', 'local/default/two'],
    );
    assert.equal(stdout, 'local/default/one deleted\nlocal/default/two deleted\n');
    assert.match(stderr, /has no volume 'none'|'default\/none'/);
    assert.equal(status, 3);
    // What is no volume keeps all from being deleted.
    await controller.cliRefused('invalid-argument', 'vol', 'delete', 'local/default/small', 'local/default');
    assert.match(await list('-q'), /small/);
  });

  test('a name is no formula in a spreadsheet', async () => {
    await controller.cliOk('vol', 'create', 'local/default/v', '--capacity', '1M');
    await controller.cliOk('token', 'create', '=1+1', '--role', 'viewer', '-q');
    const text = await controller.cliOk('token', 'list', '-o', 'csv');
    assert.match(text, /^'=1\+1,viewer/m);
    await controller.cliOk('vol', 'delete', 'local/default/v');
  });

  test('times are local, with their zone', async () => {
    const { stdout } = await controller.cliIn({ TZ: 'Asia/Kolkata' }, 'token', 'list');
    assert.match(stdout, /\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+05:30/);
  });

  test('jobs by their state, records by time, actor and host', async () => {
    await controller.cliOk('vol', 'clone', 'local/default/small', 'local/default/copy');
    assert.match(await controller.cliOk('job', 'list', '--state', 'done', '-o', 'csv'), /clone,done/);
    assert.equal(await controller.cliOk('job', 'list', '--state', 'failed', '-q'), '');
    const since = await controller.cliOk(
      'audit',
      'list',
      '--since',
      '5m',
      '--by',
      'admin',
      '--host',
      'local',
    );
    assert.match(since, /local\/default\/copy/);
    assert.equal(await controller.cliOk('audit', 'list', '--host', 'loca', '-q'), '');
    assert.equal(await controller.cliOk('audit', 'list', '--by', 'nobody', '-q'), '');
    await controller.cliRefused('invalid-argument', 'audit', 'list', '--since', 'yesterday');
    await controller.cliOk('vol', 'delete', 'local/default/copy');
  });

  test('a clone elsewhere is refused with the command that does it', async () => {
    const words = await controller.cliRefused(
      'invalid-argument',
      ...['vol', 'clone', 'local/default/small', 'other/pool/v'],
    );
    assert.match(words, /vol copy local\/default\/small other\/pool\/v/);
  });

  test('on a terminal a delete asks; without one, or with --yes, it does not', async () => {
    const command = 'stowage vol delete local/default/small';
    const when = /\[y\/N\]/;
    for (const keys of ['n\n', '\n', '\u0004']) {
      const { status, stdout } = await atTerminal(command, { when, keys }, environment());
      assert.match(stdout, /Delete local\/default\/small\? \[y\/N\]/);
      assert.match(stdout, /nothing was changed/);
      assert.equal(status, 130);
    }
    assert.match(await list('-q'), /small/);
    const { status } = await atTerminal(command, { when, keys: 'y\n' }, environment());
    assert.equal(status, 0);
    assert.doesNotMatch(await list('-q'), /small/);
    await controller.cliOk('vol', 'create', 'local/default/small', '--capacity', '1M');
    const unasked = await atTerminal(`${command} --yes`, { when, keys: 'n\n' }, environment());
    assert.equal(unasked.status, 0);
    assert.doesNotMatch(unasked.stdout, when);
    await controller.cliOk('vol', 'create', 'local/default/small', '--capacity', '1M');
  });

  test('Ctrl-C at a job says that it goes on', async () => {
    writeFileSync(join(room.path, 'image'), randomBytes(20 * MIB));
    await controller.cliOk('vol', 'upload', join(room.path, 'image'), 'local/default/moving');
    const command = 'stowage vol migrate local/default/moving local/default/moved --limit 1M';
    const { status, stdout } = await atTerminal(command, { when: /MiB of/, keys: '\u0003' }, environment());
    assert.match(stdout, /job \d+ goes on; to stop it: stowage job cancel \d+/);
    assert.equal(status, 130);
    const [job] = await controller.api<{ id: number; state: string }[]>('/jobs?limit=1');
    assert.equal(job?.state, 'running');
    await controller.cliOk('job', 'cancel', String(job?.id));
  });

  test('Ctrl-C before the answer says that it may be done all the same', async () => {
    const silent = createServer().listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const { port } = silent.address() as AddressInfo;
    const env = { ...environment(), STOWAGE_URL: `http://127.0.0.1:${port}` };
    const commands = [
      [
        'stowage vol migrate local/default/moving local/default/moved',
        /may do it all the same; see: stowage job list/,
      ],
      ['stowage vol show local/default/moving', /^\^C\s*$/],
    ] as const;
    for (const [command, words] of commands) {
      const when = once(silent, 'connection').then(([socket]) => once(socket as Socket, 'data'));
      const { status, stdout } = await atTerminal(command, { when, keys: '\u0003' }, env);
      assert.equal(status, 130);
      assert.match(stdout, words);
    }
    silent.close();
  });

  test('an upload over a volume says so; a download over a file needs --force', async () => {
    const [image, back] = [join(room.path, 'image'), join(room.path, 'back')];
    await controller.cliRefused('volume-exists', 'vol', 'upload', image, 'local/default/moving');
    assert.match(await controller.cliOk('vol', 'upload', image, 'local/default/moving', '-y'), /is replaced/);
    await controller.cliOk('vol', 'download', 'local/default/moving', back);
    await controller.cliRefused('file-exists', 'vol', 'download', 'local/default/moving', back);
    writeFileSync(back, 'other');
    await controller.cliOk('vol', 'download', 'local/default/moving', back, '--force');
    assert.ok(readFileSync(back).equals(readFileSync(image)));
  });

  const brittleRoad = (options: RoadOptions = {}) => openRoad(Number(new URL(controller.url).port), options);

  test('a download goes on after a cut, and after a kill', async () => {
    const sizeBytes = 160 * MIB;
    const [image, back] = [join(room.path, 'large'), join(room.path, 'large-back')];
    writeFileSync(image, randomBytes(sizeBytes));
    await controller.cliOk('vol', 'upload', image, 'local/default/huge');
    {
      using road = await brittleRoad({ cutBytes: 100 * MIB, cuts: 1 });
      const { status, stderr } = await controller.cliIn(
        { STOWAGE_URL: road.url },
        ...['vol', 'download', 'local/default/huge', back, '--through-controller'],
      );
      assert.equal(status, 0, stderr);
      assert.equal(road.cuts, 0);
      assert.ok(road.bytes < sizeBytes + 20 * MIB, `${road.bytes} bytes came`);
      assert.ok(readFileSync(back).equals(readFileSync(image)));
    }
    rmSync(back);
    // Killed when some of it is on record.
    using slow = await brittleRoad({ stallBytes: 120 * MIB });
    const child = execFile(
      join(controller.directory, 'bin/stowage'),
      ['vol', 'download', 'local/default/huge', back, '--through-controller'],
      { env: { ...environment(), STOWAGE_URL: slow.url } },
    );
    await until('a note of how far it has come', () => {
      try {
        return (JSON.parse(readFileSync(`${back}.part.json`, 'utf8')) as { chunks: number }).chunks > 0;
      } catch {
        return false;
      }
    });
    child.kill('SIGKILL');
    const { chunks } = JSON.parse(readFileSync(`${back}.part.json`, 'utf8')) as { chunks: number };
    using road = await brittleRoad();
    const { status } = await controller.cliIn(
      { STOWAGE_URL: road.url },
      ...['vol', 'download', 'local/default/huge', back, '--through-controller'],
    );
    assert.equal(status, 0);
    assert.ok(
      road.bytes < sizeBytes - chunks * 2 * MIB + MIB,
      `${road.bytes} bytes came after ${chunks} chunks`,
    );
    assert.ok(readFileSync(back).equals(readFileSync(image)));
    await controller.cliOk('vol', 'delete', 'local/default/huge');
  });

  test('what was left of another state is not gone on with', async () => {
    const [image, back] = [join(room.path, 'image'), join(room.path, 'changed')];
    const { id } = await controller.api<{ id: string }>('/hosts/local/pools/default/volumes/moving');
    writeFileSync(`${back}.part`, Buffer.alloc(20 * MIB, 7));
    const note = { volumeId: id, etag: 'older', as: 'image', sizeBytes: 20 * MIB, chunks: 9 };
    writeFileSync(`${back}.part.json`, JSON.stringify(note));
    await controller.cliOk('vol', 'download', 'local/default/moving', back);
    assert.ok(readFileSync(back).equals(readFileSync(image)));
    const refused = await controller.fetch(
      '/hosts/local/pools/default/volumes/moving/extents?etag=older&from=9',
    );
    assert.equal(refused.status, 409);
    assert.equal(((await refused.json()) as { code: string }).code, 'volume-changed');
  });

  test('a disk that is full ends no download as done', async () => {
    const { stderr, status } = await execute(
      'bash',
      ['-c', 'stowage vol download local/default/moving - > /dev/full'],
      environment(),
    );
    assert.equal(status, 1, stderr);
    assert.match(stderr, /ENOSPC/);
    await controller.cliRefused(
      'invalid-argument',
      'vol',
      'download',
      'local/default/moving',
      '/dev/null',
      '--force',
    );
  });

  test('whoever may not follow a list is told why', async () => {
    const { status, stderr } = await execute(
      join(controller.directory, 'bin/stowage'),
      ['vol', 'list', '--watch'],
      { ...environment(), STOWAGE_TOKEN: 'stw_wrong' },
    );
    assert.equal(status, 5, stderr);
    assert.match(stderr, /\[unauthenticated\]/);
  });

  test('a controller ends though somebody follows a list, and the token goes to no other', async () => {
    const child = execFile(join(controller.directory, 'bin/stowage'), ['vol', 'list', '--watch', '-q'], {
      env: environment(),
    });
    let shown = '';
    child.stdout!.on('data', (text) => {
      shown += text;
    });
    await until('the list', () => shown.includes('local/default/small'));
    await controller.cliOk('vol', 'create', 'local/default/followed', '--capacity', '1M');
    await until('the change', () => shown.includes('local/default/followed'));
    await controller.cliOk('vol', 'delete', 'local/default/followed');
    const began = Date.now();
    await controller.kill('SIGTERM');
    assert.ok(Date.now() - began < 20_000);
    await until('the end of the watcher', () => child.exitCode !== null);
    assert.equal(child.exitCode, 6);
    await controller.restart();
    const heard: string[] = [];
    const thief = createServer((socket) => {
      socket.on('data', (data) => heard.push(data.toString()));
      socket.on('error', () => undefined);
      socket.end('HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi');
    });
    const port = await freePort();
    await new Promise<void>((done) => thief.listen(port, '127.0.0.1', done));
    const env = { STOWAGE_DATA: controller.directory, STOWAGE_TOKEN: undefined };
    assert.equal((await controller.cliIn({ ...env, STOWAGE_URL: undefined }, 'vol', 'list')).status, 0);
    const elsewhere = await controller.cliIn(
      { ...env, STOWAGE_URL: `http://127.0.0.1:${port}` },
      'vol',
      'list',
    );
    assert.equal(elsewhere.status, 5);
    const foreign = await controller.cliIn({ STOWAGE_URL: `http://127.0.0.1:${port}` }, 'vol', 'list');
    assert.match(foreign.stderr, /no controller of Stowage/);
    assert.equal(heard.length, 1);
    assert.match(
      (await controller.cliIn({ STOWAGE_URL: 'localhost:1' }, 'vol', 'list')).stderr,
      /STOWAGE_URL is/,
    );
    thief.close();
  });

  test('what is mistyped is told, and does nothing', async () => {
    const refused = (code: string, ...args: string[]) => controller.cliRefused(code, ...args);
    assert.match(await refused('invalid-argument', 'vol', 'list', 'local/default/small'), /vol show/);
    assert.match(
      await refused('host-not-found', 'vol', 'migrate', 'local/default/small', 'nohost/p'),
      /nohost/,
    );
    assert.match(
      await refused('shrink-refused', 'vol', 'resize', 'local/default/small', '512K'),
      /\(--shrink\) \[shrink-refused\]/,
    );
    assert.match((await controller.cli('job', 'show', 'abc')).stderr, /whole number/);
    assert.match(
      (await controller.cli('token', 'create', 'x', '--role', 'viewer', '--days', '0')).stderr,
      /whole number/,
    );
    assert.match((await controller.cliAs('wrong', 'vol', 'list')).stderr, /no token of Stowage/);
    await refused('token-exists', 'token', 'create', 'admin', '--role', 'viewer');
    await controller.cliOk(
      'pool',
      'create',
      'local/stopped',
      '--type',
      'dir',
      '--target',
      join(room.path, 'stopped'),
    );
    await controller.cliOk('vol', 'create', 'local/stopped/v', '--capacity', '1M');
    await controller.cliOk('pool', 'stop', 'local/stopped');
    await refused('pool-inactive', 'vol', 'list', 'local/stopped');
    await refused('pool-inactive', 'vol', 'show', 'local/stopped/v');
    await controller.cliOk('pool', 'delete', 'local/stopped');
    writeFileSync(
      join(room.path, 'container'),
      Buffer.concat([Buffer.from('QFI\xfb', 'latin1'), Buffer.alloc(MIB)]),
    );
    await refused(
      'invalid-image',
      ...['vol', 'upload', join(room.path, 'container'), 'local/default/content', '--as', 'content'],
    );
  });

  test('on a terminal an upload over a volume asks, and Ctrl-C gives the terminal back', async () => {
    const image = join(room.path, 'image');
    const { status, stdout } = await atTerminal(
      `stowage vol upload ${image} local/default/moving`,
      { when: /\[y\/N\]/, keys: 'n\n' },
      environment(),
    );
    assert.match(stdout, /Replace what is in local\/default\/moving\?/);
    assert.equal(status, 130);
    assert.equal(
      await controller.cliOk('job', 'list', '--state', 'running', '-q'),
      '',
      await controller.cliOk('job', 'list', '-o', 'json', '--limit', '4'),
    );
    writeFileSync(join(room.path, 'long'), randomBytes(300 * MIB));
    const upload = `stowage vol upload ${join(room.path, 'long')} local/default/long`;
    const cut = await atTerminal(upload, { when: /MiB of/, keys: '\u0003' }, environment());
    const shown = cut.stdout;
    assert.equal(cut.status, 130);
    assert.match(shown, /goes on from here/);
    assert.ok(shown.lastIndexOf('\u001b[?25h') > shown.lastIndexOf('\u001b[?25l'));
    for (const id of (await controller.cliOk('job', 'list', '--state', 'running', '-q'))
      .split('\n')
      .filter(Boolean))
      await controller.cliOk('job', 'cancel', id);
  });

  test('a host that dials in needs no more than what host token says', async () => {
    const text = await controller.cliOk('host', 'token', 'far');
    const [, token] = /^token +(\S+)/.exec(text)!;
    const lines = text.split('\n').filter((line) => /^ {2}(curl|sha256sum)|^[0-9a-f]{64} |^END$/.test(line));
    const directory = join(room.path, 'far');
    mkdirSync(directory);
    writeFileSync(join(directory, 'token'), `${token}\n`);
    const fetched = await execute('bash', [
      '-c',
      `set -e; cd ${directory}; ${lines.map((line) => line.trim()).join('\n')}`,
    ]);
    assert.equal(fetched.status, 0, fetched.stderr);
    const [, url] = /connect (\S+) --token-file token/.exec(text)!;
    const agent = execFile(
      process.execPath,
      ['stowage-agent.mjs', 'connect', url!, '--token-file', 'token', '--state', join(directory, 'state')],
      { cwd: directory },
    );
    try {
      await until('it is reachable', async () =>
        /far +websocket +reachable/.test(await controller.cliOk('host', 'list')),
      );
      assert.equal((await controller.fetch('/agent/passwd')).status, 404);
    } finally {
      agent.kill('SIGTERM');
    }
    await controller.cliOk('host', 'remove', 'far');
  });

  describe('completion', () => {
    const words = async (...typed: string[]): Promise<string[]> =>
      (await controller.cliOk('complete', '--', ...typed)).split('\n').filter(Boolean);

    test('of commands, options, choices and names', async () => {
      assert.deepEqual(await words('vo'), ['vol']);
      assert.deepEqual(await words('vol', 'mig'), ['migrate']);
      assert.ok((await words('vol', 'migrate', '--')).includes('--keep-source'));
      assert.deepEqual(await words('vol', 'create', '--format', 'q'), ['qcow2']);
      assert.deepEqual(await words('host', 'show', ''), ['local']);
      assert.deepEqual(await words('pool', 'show', 'lo'), ['local/default']);
      assert.deepEqual(await words('vol', 'show', 'lo'), ['local/default/']);
      assert.deepEqual(await words('vol', 'show', 'local/default/la'), ['local/default/large']);
      assert.deepEqual(await words('vol', 'show', 'local/default/large'), ['local/default/large']);
      assert.ok((await words('job', 'show', '')).includes('1'));
      assert.ok((await words('token', 'revoke', '')).includes('admin'));
      assert.deepEqual(await words('completion', ''), ['bash', 'zsh', 'fish']);
      assert.deepEqual(await words('vol', 'show', 'nosuch/pool/'), []);
    });

    test('in bash', async () => {
      const script = `source <(stowage completion bash)
COMP_WORDS=(stowage vol show local/default/la); COMP_CWORD=3; _stowage; echo "\${COMPREPLY[@]}"`;
      const { stdout } = await run('bash', ['-c', script], { env: environment() });
      assert.equal(stdout.trim(), 'local/default/large');
    });

    test('in zsh', async () => {
      const script = `autoload -Uz compinit; compinit -D; source <(stowage completion zsh)
compadd() { [[ $1 == -S ]] && shift 2; shift; print -l "\${(@P)1}" }
words=(stowage vol show local/default/la); CURRENT=4; _stowage`;
      const { stdout } = await run('zsh', ['-f', '-c', script], { env: environment() });
      assert.equal(stdout.trim(), 'local/default/large');
    });

    test('in fish', async () => {
      const script = `stowage completion fish | source; complete -C 'stowage vol show local/default/la'`;
      const env = { ...environment(), HOME: room.path };
      const { stdout } = await run('fish', ['--no-config', '-c', script], { env });
      assert.equal(stdout.trim(), 'local/default/large');
    });
  });
});
