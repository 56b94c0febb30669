import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { readConfiguration } from '../../controller/configuration/file.ts';
import { listenAddress } from '../../controller/configuration/listen-address.ts';
import { tracesOptions } from '../../controller/configuration/traces.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { execute, TestController } from '../support/controller.ts';
import { scratch } from '../support/scratch.ts';

describe('the configuration of a controller', () => {
  const room = scratch();
  after(() => room[Symbol.asyncDispose]());
  const wrongIn = (content: string): string[] => {
    const path = room.file('wrong.yaml', content);
    try {
      readConfiguration(path);
    } catch (error) {
      assert.ok(error instanceof StowageError && error.code === 'invalid-argument');
      return error.message.replaceAll(path, 'F').split('\n').slice(1);
    }
    return [];
  };

  test('what is wrong is told with its line and key, all at once and in the order of the file', () => {
    const told = wrongIn(
      [
        '# of our site',
        'data: relative',
        'listen: 7070',
        'jobs-per-host: many',
        'publicurl: https://storage.example',
        'open-id:',
        '  issuer: https://id.example',
        '  client-id: stowage',
        '  viewers: [staff, 3]',
        'notify:',
        '  after: soon',
        '  quiet: { from: "22:00", to: "25:00", zone: Mars/Base }',
        '  mail: { host: mail.example, from: a@b.example, to: [], user: x }',
      ].join('\n'),
    );
    assert.deepEqual(
      told.map((line) => line.replace(/: must .*|: a .*|: there .*|: is a .*/, '')),
      [
        'F:2:1: data',
        'F:3:1: listen',
        'F:4:1: jobs-per-host',
        'F:5:1: publicurl',
        'F:6:1: open-id.client-secret-file: is missing',
        'F:9:20: open-id.viewers.1',
        'F:11:3: notify.after',
        'F:12:27: notify.quiet.to',
        'F:12:40: notify.quiet.zone',
        'F:13:3: notify.mail: user and password-file come together',
        'F:13:50: notify.mail.to',
      ],
    );
  });

  test('what is no YAML, or no map, is told, and what is empty says nothing', () => {
    assert.match(wrongIn('data: [\nlisten: "x')[0]!, /^F:2:1: /);
    assert.match(wrongIn('data: /a\ndata: /b\n')[0]!, /^F:2:1: this is no YAML: duplicate key/);
    assert.match(wrongIn('- a\n')[0]!, /^F:1:1: must be an object/);
    assert.match(wrongIn(`a: &a [x]\nb: &b [${'*a,'.repeat(200)}]\nc: [${'*b,'.repeat(200)}]`)[0]!, /alias/i);
    assert.deepEqual(readConfiguration(room.file('empty.yaml', '# nothing\n')), {});
    assert.throws(() => readConfiguration(join(room.path, 'absent')), { code: 'invalid-argument' });
  });

  test('a value is never quoted: it may be a secret in a wrong place', () => {
    const told = wrongIn(
      ['open-id:', '  issuer: s3cret', 'tls: s3cret', 'log-level: s3cret', 'notify: s3cret'].join('\n'),
    );
    for (const text of [
      'data: *s3cret',
      'data: |s3cret',
      'data: "a" s3cret',
      'public-url: https://a:s3cret@h',
    ])
      told.push(...wrongIn(text));
    assert.ok(told.length >= 8);
    assert.ok(!told.join().includes('s3cret'), told.join());
  });

  test('the command line counts more than the environment, and that more than the file', async () => {
    const config = room.file(
      'controller.yaml',
      `data: ${join(room.path, 'data')}\nlisten: 127.0.0.1:1\nlocal-agent: false\nlog-level: info\n`,
    );
    await using controller = await TestController.start(join(room.path, 'other'), [], {
      STOWAGE_CONFIG: config,
      STOWAGE_LOG: 'silent',
    });
    assert.match(controller.url, /^http:\/\/127\.0\.0\.1:\d{4,5}$/);
    assert.equal(await controller.cliOk('host', 'list', '-q'), '', 'it has an agent of its own');
    assert.equal(controller.log, '', 'the file decided on the log');
  });

  test('an address of IPv6 stands in brackets', () => {
    for (const [text, address] of [
      ['127.0.0.1:7070', { host: '127.0.0.1', port: 7070 }],
      ['[::1]:7070', { host: '::1', port: 7070 }],
      ['[fe80::1%eth0]:1', { host: 'fe80::1%eth0', port: 1 }],
      ['storage.example:65535', { host: 'storage.example', port: 65_535 }],
      ['::1:7070', undefined],
      ['[::1]', undefined],
      ['[storage.example]:1', undefined],
      ['127.0.0.1:65536', undefined],
      [':7070', undefined],
    ] as const)
      assert.deepEqual(listenAddress(text), address, text);
  });

  test('an option is taken as the key of the file is', async () => {
    for (const [option, words] of [
      ['--public-url=storage.example', /--public-url <url>.*a URL such as/],
      ['--public-url=storage.example:7070', /a URL such as/],
      ['--public-url=https://a:b@storage.example', /has no user and no password/],
      ['--listen=::1:7070', /where to listen is HOST:PORT/],
    ] as const) {
      const { status, stderr } = await execute(process.execPath, ['controller/main.ts', option, 'check']);
      assert.equal(status, 1, option);
      assert.match(stderr, words);
    }
  });

  test('check starts nothing, and tells of secrets that cannot be read', async () => {
    const check = (content: string, env: NodeJS.ProcessEnv = {}) =>
      execute(process.execPath, ['controller/main.ts', '--config', room.file('c.yaml', content), 'check'], {
        ...process.env,
        ...env,
      });
    assert.match((await check('tls: true\n')).stdout, /the configuration is valid/);
    for (const [content, words] of [
      ['store-file: /absent\n', /a secret cannot be read: ENOENT.*\/absent/],
      [`store-file: ${room.file('empty', '\n')}\n`, /there is no secret in it/],
      [`store-file: ${room.file('url', 'mysql://root:pw@h/db\n')}\n`, /url is no postgres:\/\/ URL/],
      ['notify: { webhooks: [{ url: "https://h.example", secret-file: /absent }] }\n', /ENOENT/],
      ['tls-cert: /absent\ntls-key: /absent\n', /\/absent/],
      ['trust-proxy: [nowhere]\n', /nowhere/],
      ['audit: { file: /absent/trail.jsonl }\n', /there is no directory for \/absent\/trail\.jsonl/],
      ['listen: h:70707\n', /listen: where to listen/],
      [
        `notify: { webhooks: [{ url: "https://h.example", secret-file: ${room.file('weak', 'c2hvcnQ=')} }] }\n`,
        /24 bytes or more/,
      ],
      ['listen: nowhere\n', /c\.yaml:1:1: listen: where to listen is HOST:PORT/],
    ] as const) {
      const { status, stderr } = await check(content);
      assert.equal(status, 1, content);
      assert.match(stderr, words);
      assert.ok(!stderr.includes('root:pw'), stderr);
    }
  });

  test('traces go where the file says, or the variables of OpenTelemetry, which count more', () => {
    const traces = { endpoint: 'http://127.0.0.1:4318/', sample: 0.25 };
    const file = { sample: 0.25, followsCaller: true, url: 'http://127.0.0.1:4318/v1/traces' };
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' };
    const sampled = (sample: number, followsCaller: boolean) => ({ sample, followsCaller });
    const sampler = (name: string, argument?: string) => ({
      ...env,
      ...{ OTEL_TRACES_SAMPLER: name, OTEL_TRACES_SAMPLER_ARG: argument },
    });
    const told = (variables: NodeJS.ProcessEnv, given?: typeof traces) =>
      JSON.parse(JSON.stringify(tracesOptions(variables, { traces: given }) ?? null));
    assert.equal(told({}), null);
    assert.deepEqual(told({}, traces), file);
    assert.deepEqual(told(env, traces), sampled(1, true));
    assert.equal(told({ ...env, OTEL_SDK_DISABLED: 'true' }, traces), null);
    assert.equal(told({ ...env, OTEL_TRACES_EXPORTER: 'none' }, traces), null);
    assert.deepEqual(told(sampler('always_off')), sampled(0, false));
    assert.deepEqual(told(sampler('traceidratio', '0.5')), sampled(0.5, false));
    assert.deepEqual(told(sampler('parentbased_traceidratio', '0')), sampled(0, true));
    for (const wrong of [
      sampler('jaeger_remote'),
      sampler('traceidratio', 'half'),
      { OTEL_EXPORTER_OTLP_ENDPOINT: 'collector' },
      { ...env, OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' },
    ])
      assert.throws(() => told(wrong), { code: 'invalid-argument' }, JSON.stringify(wrong));
    assert.deepEqual(
      wrongIn('traces:\n  endpoint: collector:4318\n  sample: 2\n').map((line) => line.slice(0, 25)),
      ['F:2:3: traces.endpoint: a', 'F:3:3: traces.sample: is '],
    );
    const given = (headers: string) =>
      tracesOptions({}, { traces: { ...traces, 'headers-file': room.file('headers', headers) } })?.headers;
    assert.deepEqual(given('# of our site\n\nAuthorization: Bearer x\nx-a:  b c \n'), {
      Authorization: 'Bearer x',
      'x-a': 'b c',
    });
    for (const wrong of ['none', 'x:', 'x-a: 1€', 'content-length: 5', 'Host: other', 'x-a: \u0001'])
      assert.throws(() => given(`a: b\n${wrong}\n`), {
        code: 'invalid-argument',
        message: /^traces\.headers-file: .*headers, line 2: a header is NAME: VALUE/,
      });
    const ca = room.file('ca.pem', 'no certificate\n');
    assert.throws(() => tracesOptions({}, { traces: { ...traces, 'ca-file': ca } }), {
      code: 'invalid-argument',
      message: /^traces\.ca-file: /,
    });
    assert.match(wrongIn('traces: { endpoint: "http://c:4318/x?key=1" }')[0]!, /no query/);
  });
});
