import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, describe, test } from 'node:test';
import { generate } from 'selfsigned';
import { SMTPServer } from 'smtp-server';
import { stringify } from 'yaml';
import type { Notices } from '../../controller/attention/channel.ts';
import { execute, TestController, until } from '../support/controller.ts';
import { startHost } from '../support/hosts.ts';
import { isRoot, scratch } from '../support/scratch.ts';

const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';

interface Received {
  headers: IncomingMessage['headers'];
  body: string;
}

/** A server that takes webhooks, or answers with the status that is set. */
async function webhookServer() {
  const received: Received[] = [];
  const server = createServer(async (request, response) => {
    const body = await text(request);
    if (taker.status === 200) received.push({ headers: request.headers, body });
    response.writeHead(taker.status, { location: '/elsewhere' }).end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const taker = {
    received,
    status: 200,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`,
    close: () => void server.close(),
  };
  return taker;
}

/** A mail server with TLS and a password. */
async function mailServer(certificate: { private: string; cert: string }) {
  const mails: string[] = [];
  const server = new SMTPServer({
    ...{ key: certificate.private, cert: certificate.cert, secure: false },
    onAuth({ username, password }, _session, done) {
      if (username === 'stowage' && password === 'open sesame') done(null, { user: username });
      else done(new Error('no'));
    },
    onRcptTo({ address }, _session, done) {
      done(
        address.startsWith('nobody')
          ? Object.assign(new Error('no such person'), { responseCode: 550 })
          : null,
      );
    },
    onData(stream, _session, done) {
      void text(stream).then((mail) => {
        mails.push(mail);
        done();
      });
    },
  });
  server.on('error', () => undefined);
  server.listen(0, '127.0.0.1');
  await once(server.server, 'listening');
  return {
    mails,
    port: (server.server.address() as AddressInfo).port,
    close: () => server.close(() => undefined),
  };
}

const subjectOf = (mail: string): string => /^Subject: .*$/m.exec(mail)![0];
const idOf = ({ headers }: Received): unknown => headers['webhook-id'];
/** Whoever is killed when something was taken, and that is not on record yet, sends it again. */
const distinct = <T>(all: readonly T[], key: (one: T) => unknown): T[] => [
  ...new Map(all.map((one) => [key(one), one])).values(),
];

describe('telling people', () => {
  const room = scratch();
  after(() => room[Symbol.asyncDispose]());

  test('a host that goes away and comes back is told of once each, by a signed webhook and by mail over TLS', {
    skip: isRoot ? false : 'sessions of sshd are ended as root only',
  }, async (context) => {
    const names = [{ name: 'commonName', value: 'localhost' }];
    const certificate = await generate(names, {
      extensions: [{ name: 'subjectAltName', altNames: [{ type: 2, value: 'localhost' }] }],
    });
    const [hook, smtp] = [await webhookServer(), await mailServer(certificate)];
    context.after(() => {
      hook.close();
      smtp.close();
    });
    await using host = await startHost(join(room.path, 'host'));
    const config = room.file(
      'controller.yaml',
      stringify({
        'local-agent': false,
        'public-url': 'https://storage.example',
        notify: {
          after: '1s',
          webhooks: [{ url: hook.url, 'secret-file': room.file('hook-secret', `${SECRET}\n`) }],
          mail: {
            ...{ host: 'localhost', port: smtp.port, security: 'starttls', user: 'stowage' },
            ...{ 'password-file': room.file('mail-password', 'open sesame\n') },
            ...{ from: 'stowage@storage.example', to: ['nobody@storage.example', 'night@storage.example'] },
          },
        },
      }),
    );
    const env = { NODE_EXTRA_CA_CERTS: room.file('ca.pem', certificate.cert) };
    const tried = await execute(
      process.execPath,
      ['controller/main.ts', '--config', config, 'check', '--notify'],
      {
        ...process.env,
        ...env,
      },
    );
    assert.equal(tried.status, 1);
    assert.match(tried.stdout, /mail nobody@storage.example: the server answered 550 to RCPT TO/);
    assert.match(tried.stdout, /mail night@storage.example: it was taken/);
    assert.match(smtp.mails.splice(0)[0]!, /Subject: \[stowage\] warning: this is a trial/);
    assert.equal(hook.received.splice(0).length, 1);

    await using controller = await TestController.start(join(room.path, 'data'), ['--config', config], env);
    await controller.addHost(host);
    await host.stop();
    hook.status = 500;
    await until('mail comes', () => smtp.mails.length > 0, 90_000);
    // What was not taken is tried again, also by a controller that was started anew.
    await controller.kill();
    hook.status = 200;
    await controller.restart();
    await until('the webhook comes', () => hook.received.length > 0, 90_000);
    const [{ headers, body }] = hook.received as [Received];
    const signed = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`;
    const key = Buffer.from(SECRET.slice(6), 'base64');
    assert.equal(
      headers['webhook-signature'],
      `v1,${createHmac('sha256', key).update(signed).digest('base64')}`,
    );
    const notices = JSON.parse(body) as Notices;
    assert.equal(notices.id, headers['webhook-id']);
    assert.equal(notices.url, 'https://storage.example');
    const [{ event, item }] = notices.notices as [Notices['notices'][0]];
    assert.deepEqual(
      [event, item.kind, item.severity, item.host],
      ['began', 'host-unreachable', 'critical', 'h1'],
    );
    const [mail] = smtp.mails as [string];
    assert.match(mail, /^Subject: \[stowage\] critical: host h1 does not answer/m);
    assert.match(mail, /^To: night@storage.example/m);
    assert.match(mail, /^Auto-Submitted: auto-generated/m);
    assert.match(await controller.cliOk('status'), /critical {2}host h1 does not answer/);

    await host.start();
    await until(
      'both hear that it is over',
      () => distinct(smtp.mails, subjectOf).length === 2 && distinct(hook.received, idOf).length === 2,
      90_000,
    );
    assert.match(smtp.mails.at(-1)!, /^Subject: \[stowage\] over: host h1 does not answer/m);
    const last = JSON.parse(hook.received.at(-1)!.body) as Notices;
    assert.deepEqual(
      last.notices.map((each) => [each.event, each.item.id]),
      [['over', 'host-unreachable h1']],
    );
    for (const secret of ['open sesame', SECRET])
      assert.ok(!controller.log.includes(secret), 'a secret is in the log');
  });

  test('who leads elsewhere, has another certificate or no TLS, or takes another password is not told, and that is said', async () => {
    const certificate = await generate([{ name: 'commonName', value: 'localhost' }], {
      extensions: [{ name: 'subjectAltName', altNames: [{ type: 2, value: 'localhost' }] }],
    });
    const [hook, smtp] = [await webhookServer(), await mailServer(certificate)];
    hook.status = 302;
    const check = (port: number, env: NodeJS.ProcessEnv = {}) => {
      const config = room.file(
        'wrong.yaml',
        stringify({
          notify: {
            webhooks: [{ url: hook.url, 'secret-file': room.file('s', SECRET) }],
            mail: {
              ...{ host: 'localhost', port, user: 'stowage', 'password-file': room.file('p', 'wrong horse') },
              ...{ from: 'a@storage.example', to: ['b@storage.example'] },
            },
          },
        }),
      );
      const args = ['controller/main.ts', '--config', config, 'check', '--notify'];
      return execute(process.execPath, args, { ...process.env, ...env });
    };
    const strange = await check(smtp.port);
    assert.equal(strange.status, 1);
    assert.ok(!strange.stdout.includes('/hook'), 'a URL may be a secret');
    assert.match(strange.stdout, /webhook .*: it answered with status 302/);
    assert.match(strange.stdout, /mail b@storage.example: .*(certificate|self-signed)/);
    assert.match(strange.stderr, /2 of 2 did not take it/);
    const env = { NODE_EXTRA_CA_CERTS: room.file('own-ca.pem', certificate.cert) };
    const refused = await check(smtp.port, env);
    assert.match(refused.stdout, /mail b@storage.example: the server answered 5\d\d to AUTH/);
    assert.ok(!`${refused.stdout}${refused.stderr}`.includes('horse'));
    const plain = new SMTPServer({ hideSTARTTLS: true, authOptional: true });
    plain.on('error', () => undefined);
    plain.listen(0, '127.0.0.1');
    await once(plain.server, 'listening');
    const open = await check((plain.server.address() as AddressInfo).port, env);
    assert.match(open.stdout, /mail b@storage.example: (?!it was taken)/);
    assert.deepEqual([hook.received, smtp.mails], [[], []]);
    hook.close();
    smtp.close();
    plain.close(() => undefined);
  });
});
