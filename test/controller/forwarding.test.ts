import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { createServer as createTcpServer } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createServer } from 'node:tls';
import { generate } from 'selfsigned';
import { Attention } from '../../controller/attention/items.ts';
import type { Duty } from '../../controller/audit/duty.ts';
import type { Destination } from '../../controller/audit/forward/destination.ts';
import { fileDestination } from '../../controller/audit/forward/file.ts';
import { forwarder } from '../../controller/audit/forward/forwarder.ts';
import { syslogDestination, syslogMessage } from '../../controller/audit/forward/syslog.ts';
import type { AuditRecord } from '../../shared/protocol/api.ts';
import { isRoot } from '../support/scratch.ts';
import { entry, type TrailRoom, until, withTrail } from '../support/trail.ts';

const forward = (room: TrailRoom, destination: Destination): Duty => room.run(forwarder(room, destination));

const linesOf = (path: string): AuditRecord[] =>
  existsSync(path)
    ? readFileSync(path, 'utf8')
        .split('\n')
        .slice(0, -1)
        .map((line) => JSON.parse(line))
    : [];
const numbersOf = (records: readonly AuditRecord[]): number[] => records.map(({ seq }) => seq);
const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);

describe('the trail is written to a file as it is made', () => {
  test('from its first record on, each once, as audit export writes it; over restarts too', async () => {
    await using room = await withTrail(1203);
    const path = join(room.directory, 'audit.jsonl');
    const first = forward(room, fileDestination(path));
    await until(() => linesOf(path).length === 1203);
    await room.trail.append(entry('h/p/one'));
    await until(() => linesOf(path).length === 1204);
    await first.close();
    await room.trail.append(entry('h/p/two'));
    const second = forward(room, fileDestination(path));
    await until(() => linesOf(path).length === 1205);
    await second.close();
    const exported: string[] = [];
    for await (const line of room.trail.export()) exported.push(line);
    assert.equal(readFileSync(path, 'utf8'), `${exported.slice(0, -1).join('\n')}\n`);
    assert.equal(statSync(path).mode & 0o777, 0o600);
  });

  test('what a kill left of a line is cut off, and what was not noted is not written twice', async () => {
    await using room = await withTrail(20);
    const path = join(room.directory, 'audit.jsonl');
    const records = await room.trail.list(100, { after: 0 });
    const text = records.map((record) => `${JSON.stringify(record)}\n`);
    // Killed in the middle of the eleventh line; nothing was noted in the store.
    writeFileSync(path, text.slice(0, 10).join('') + text[10]!.slice(0, 40));
    forward(room, fileDestination(path));
    await until(() => linesOf(path).length === 20);
    assert.equal(readFileSync(path, 'utf8'), text.join(''));
  });

  test('a file that is rotated is followed by a new one, without a gap', async () => {
    await using room = await withTrail(5);
    const path = join(room.directory, 'audit.jsonl');
    const forwarder = forward(room, fileDestination(path));
    await until(() => linesOf(path).length === 5);
    renameSync(path, `${path}.1`);
    await room.trail.append(entry('h/p/next'));
    await until(() => linesOf(path).length === 1);
    assert.deepEqual(numbersOf([...linesOf(`${path}.1`), ...linesOf(path)]), upTo(6));
    await until(async () => (await room.store.forwarding.position(`file ${path}`)) === 6);
    await forwarder.close();
    // While nobody writes: how far it was is known by the store alone.
    renameSync(path, `${path}.2`);
    await room.trail.append(entry('h/p/later'));
    forward(room, fileDestination(path));
    await until(() => linesOf(path).length === 1);
    assert.deepEqual(numbersOf(linesOf(path)), [7]);
  });

  test('a file that lost its end, as it was restored, gets it again', async () => {
    await using room = await withTrail(10);
    const path = join(room.directory, 'audit.jsonl');
    const forwarder = forward(room, fileDestination(path));
    await until(() => linesOf(path).length === 10 && forwarder.state.isFlowing);
    await forwarder.close();
    const lines = readFileSync(path, 'utf8').split('\n');
    writeFileSync(path, `${lines.slice(0, 4).join('\n')}\n`);
    forward(room, fileDestination(path));
    await until(() => linesOf(path).length === 10);
    assert.deepEqual(numbersOf(linesOf(path)), upTo(10));
  });

  test('a pipe, a directory and a file of JSON that is none of ours are refused, and stay', async () => {
    await using room = await withTrail(3);
    const at = (name: string): string => join(room.directory, name);
    execFileSync('mkfifo', [at('pipe')]);
    mkdirSync(at('directory'));
    writeFileSync(at('json'), '{"a":1}');
    for (const [name, words] of [
      ['pipe', 'is no file'],
      ['directory', 'is no file'],
      ['json', 'something else'],
    ] as const) {
      const forwarder = forward(room, fileDestination(at(name)));
      assert.ok((await until(() => forwarder.state.standstill)).reason.includes(words));
      await forwarder.close();
    }
    assert.equal(readFileSync(at('json'), 'utf8'), '{"a":1}');
  });

  test('a file with something else in it, or with another trail, is left as it is, and that is told', async () => {
    await using other = await withTrail(3);
    await using room = await withTrail(3);
    for (const [name, text] of [
      ['letter', 'Dear Sir or Madam'],
      ['lines', 'a\nb\n'],
      ['trail', `${JSON.stringify((await other.trail.list(1, { after: 1 }))[0])}\n`],
    ] as const) {
      const path = join(room.directory, name);
      writeFileSync(path, text);
      const forwarder = forward(room, fileDestination(path));
      const { reason } = await until(() => forwarder.state.standstill);
      assert.match(reason, /something else than an audit trail|none of this trail/);
      const attention = new Attention(room.store, () => [forwarder.state]);
      const [item] = await attention.items([]);
      assert.equal(item?.summary, `the audit trail does not reach file ${path}`);
      assert.equal(await attention.end(item!), 'unknown');
      assert.deepEqual(
        await attention.items(['h']),
        [],
        'whose part of the fleet is small has none of the trail',
      );
      assert.equal(await new Attention(room.store).end(item!), 'over', 'it is not to go there any more');
      await forwarder.close();
      assert.equal(readFileSync(path, 'utf8'), text);
    }
  });

  test('on a full disk nothing is lost and nothing is there twice', {
    skip: !isRoot && 'only root mounts a small disk',
  }, async () => {
    await using room = await withTrail(400);
    const disk = join(room.directory, 'disk');
    mkdirSync(disk);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=32k', 'tmpfs', disk]);
    try {
      const path = join(disk, 'audit.jsonl');
      const forwarder = forward(room, fileDestination(path));
      await until(() => forwarder.state.standstill?.reason.includes('ENOSPC'));
      execFileSync('mount', ['-o', 'remount,size=4m', disk]);
      await until(() => linesOf(path).length === 400);
      assert.deepEqual(numbersOf(linesOf(path)), upTo(400));
      await until(() => forwarder.state.isFlowing && !forwarder.state.standstill);
      await forwarder.close();
    } finally {
      execFileSync('umount', ['-l', disk]);
    }
  });
});

/** A certificate of a server on this machine, PEM. */
const certificate = () =>
  generate([{ name: 'commonName', value: 'localhost' }], {
    extensions: [{ name: 'subjectAltName', altNames: [{ type: 2, value: 'localhost' }] }],
  });

/** A port that is free. */
async function freePort(): Promise<number> {
  const server = createTcpServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

/** rsyslogd, which writes what it is sent over TLS into a file. */
async function startRsyslog(
  directory: string,
  port: number,
  keys: { private: string; cert: string },
): Promise<ChildProcess> {
  const at = (name: string): string => join(directory, name);
  writeFileSync(at('key.pem'), keys.private);
  writeFileSync(at('cert.pem'), keys.cert);
  writeFileSync(
    at('rsyslog.conf'),
    `global(workDirectory="${directory}" defaultNetstreamDriver="gtls" maxMessageSize="64k"
  defaultNetstreamDriverCAFile="${at('cert.pem')}" defaultNetstreamDriverCertFile="${at('cert.pem')}" defaultNetstreamDriverKeyFile="${at('key.pem')}")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="anon")
input(type="imtcp" address="127.0.0.1" port="${port}")
template(name="all" type="list") {
  property(name="pri") constant(value=" ") property(name="app-name") constant(value=" ") property(name="msgid")
  constant(value=" ") property(name="timereported" dateFormat="rfc3339") constant(value=" ") property(name="msg") constant(value="\\n")
}
action(type="omfile" file="${at('received')}" template="all")
`,
  );
  const child = spawn('rsyslogd', ['-n', '-f', at('rsyslog.conf'), '-i', at('pid')], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  await until(() => existsSync(at('pid')));
  return child;
}

async function end(child: ChildProcess): Promise<void> {
  const closed = once(child, 'close');
  child.kill('SIGTERM');
  await closed;
}

describe('the trail is sent to syslog as it is made', () => {
  test('a message has facility, severity, time and action as RFC 5424 wants them, and the record', () => {
    const record = {
      ...{
        seq: 7,
        at: Date.UTC(2026, 10, 30, 2, 3, 4, 5),
        actor: 'ada',
        source: '192.0.2.1',
        action: 'volume.delete',
      },
      ...{
        target: 'h/p/v',
        outcome: 'refused' as const,
        detail: 'no\nright, “quoted”',
        previous: 'a',
        hash: 'b',
      },
    };
    const message = syslogMessage(record);
    const [head, text] = [message.slice(0, message.indexOf('{')), message.slice(message.indexOf('{'))];
    assert.match(message, /^[ -~]+$/, 'ASCII, which needs no byte order mark');
    assert.match(head, /^<108>1 2026-11-30T02:03:04\.005Z \S+ stowage - volume\.delete - $/);
    assert.deepEqual(JSON.parse(text), record);
    assert.ok(!message.includes('\n'));
  });

  test('rsyslog gets the whole trail, and what it missed while it was away', async () => {
    await using room = await withTrail(700);
    const keys = await certificate();
    const port = await freePort();
    const received = join(room.directory, 'received');
    const got = (): { lines: string[]; numbers: number[] } => {
      const lines = existsSync(received) ? readFileSync(received, 'utf8').split('\n').slice(0, -1) : [];
      return { lines, numbers: lines.map((line) => JSON.parse(line.slice(line.indexOf('{'))).seq) };
    };
    let server = await startRsyslog(room.directory, port, keys);
    try {
      const forwarder = forward(room, syslogDestination({ host: 'localhost', port, ca: keys.cert }));
      await until(() => got().numbers.length >= 700);
      assert.deepEqual(got().numbers, upTo(700));
      assert.match(got().lines[0]!, /^109 stowage volume\.create 20\d\d-\S+ +\{/);
      await room.trail.append({ ...entry('h/p/late'), detail: 'é'.repeat(3000) });
      await until(() => got().numbers.length === 701);
      await end(server);
      await until(() => forwarder.state.standstill);
      await room.trail.append(entry('h/p/away'));
      server = await startRsyslog(room.directory, port, keys);
      await until(() => got().numbers.includes(702));
      assert.deepEqual(
        got().numbers.filter((seq, index, all) => all.indexOf(seq) === index),
        upTo(702),
        'in order, but for what came again',
      );
      await until(() => forwarder.state.isFlowing);
      await forwarder.close();
      const before = got().numbers.length;
      await room.trail.append(entry('h/p/after'));
      forward(room, syslogDestination({ host: 'localhost', port, ca: keys.cert }));
      await until(() => got().numbers.length > before);
      assert.deepEqual(got().numbers.slice(before), [703], 'what was confirmed is not sent again');
    } finally {
      await end(server);
    }
  });

  test('a server that takes and forgets what it was sent before it broke off is sent it again', async () => {
    await using room = await withTrail(50);
    const keys = await certificate();
    let received = '';
    let isForgetful = true;
    const server = createServer({ key: keys.private, cert: keys.cert }, (socket) => {
      socket.on('error', () => undefined);
      socket.on('data', (data) => {
        if (!isForgetful) received += data.toString();
        else socket.destroy();
      });
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    try {
      const forwarder = forward(room, syslogDestination({ host: 'localhost', port, ca: keys.cert }));
      await until(() => forwarder.state.standstill);
      assert.equal(await room.store.forwarding.position(`syslog localhost:${port}`), 0);
      isForgetful = false;
      await until(() => received.includes('"seq":50,'));
      await until(() => forwarder.state.isFlowing);
      await forwarder.close();
    } finally {
      server.close();
    }
    // As a server reads it: a length in bytes, a blank, and so many bytes.
    let rest = Buffer.from(received);
    const numbers: number[] = [];
    while (rest.length > 0) {
      const blank = rest.indexOf(' ');
      const length = Number(rest.subarray(0, blank).toString());
      const message = rest.subarray(blank + 1, blank + 1 + length).toString();
      numbers.push(JSON.parse(message.slice(message.indexOf('{'))).seq);
      rest = rest.subarray(blank + 1 + length);
    }
    assert.deepEqual(numbers, upTo(50));
  });

  test('what a server was sent that never reads is not taken for sent', async () => {
    await using room = await withTrail(5);
    const keys = await certificate();
    const server = createServer({ key: keys.private, cert: keys.cert }, (socket) => {
      socket.on('error', () => undefined);
      socket.pause();
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const destination = syslogDestination({ host: 'localhost', port, ca: keys.cert });
    await destination.take(await room.trail.list(10, { after: 0 }), new AbortController().signal);
    await assert.rejects(destination.confirm(AbortSignal.timeout(1500)), /timeout|aborted/i);
    await destination.close();
    server.close();
  });

  test('nothing is sent to a server that cannot show who it is', async () => {
    await using room = await withTrail(3);
    const [keys, others] = [await certificate(), await certificate()];
    let bytes = 0;
    const server = createServer({ key: others.private, cert: others.cert }, (socket) => {
      socket.on('error', () => undefined);
      socket.on('data', (data) => {
        bytes += data.length;
      });
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    try {
      const forwarder = forward(room, syslogDestination({ host: 'localhost', port, ca: keys.cert }));
      assert.match((await until(() => forwarder.state.standstill)).reason, /certificate|self-signed/);
      assert.equal(bytes, 0);
      await forwarder.close();
    } finally {
      server.close();
    }
  });

  test('one that never answers holds up nothing: the trail grows, and the controller ends', async () => {
    await using room = await withTrail(3);
    const silent = createTcpServer(() => undefined).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const { port } = silent.address() as { port: number };
    const forwarder = forward(room, syslogDestination({ host: 'localhost', port }));
    await sleep(500);
    await room.trail.append(entry('h/p/more'));
    const began = Date.now();
    await forwarder.close();
    assert.ok(Date.now() - began < 5000);
    silent.close();
  });
});
