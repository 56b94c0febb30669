import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { stringify } from 'yaml';
import type { Job } from '../../shared/protocol/api.ts';
import { type ReceivedSpan, TestCollector } from '../support/collector.ts';
import { TestController, until } from '../support/controller.ts';
import { scratch } from '../support/scratch.ts';

const SERVER = 2;
const CLIENT = 3;
const ERROR = 2;

describe('OpenTelemetry traces', () => {
  const room = scratch();
  let collector: TestCollector;
  let controller: TestController;

  before(async () => {
    collector = await TestCollector.start();
    const config = room.file(
      'controller.yaml',
      stringify({
        traces: {
          endpoint: `${collector.url}/otlp`,
          'headers-file': room.file('headers', 'x-tenant: s3cret\n'),
        },
      }),
    );
    controller = await TestController.start(join(room.path, 'controller'), ['--config', config], {
      OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test',
    });
    await until('the local host is there', async () =>
      (await controller.cliOk('pool', 'list')).includes('running'),
    );
  });
  after(async () => {
    await controller?.[Symbol.asyncDispose]();
    collector?.[Symbol.dispose]();
    await room[Symbol.asyncDispose]();
  });

  const spanOf = (name: string, traceId: string): Promise<ReceivedSpan> =>
    until(
      `a span ${name}: ${collector.spans.map((span) => span.name).join()}`,
      () => collector.spans.find((span) => span.name === name && span.traceId === traceId),
      20_000,
    );
  const newTrace = () => ({
    traceId: randomBytes(16).toString('hex'),
    parent: randomBytes(8).toString('hex'),
  });

  async function call(method: string, path: string, json?: unknown, sampled = true) {
    const { traceId, parent } = newTrace();
    const response = await controller.fetch(path, {
      method,
      body: json === undefined ? undefined : JSON.stringify(json),
      headers: {
        traceparent: `00-${traceId}-${parent}-0${sampled ? 1 : 0}`,
        ...(json !== undefined && { 'content-type': 'application/json' }),
      },
    });
    return { traceId, parent, status: response.status, body: (await response.json()) as Job };
  }

  test('an action, its job with its steps, and the questions to agents are one trace, which goes on from the caller’s', async () => {
    const pool = '/hosts/local/pools/default';
    const made = await call('POST', `${pool}/volumes`, { name: 'a', format: 'raw', capacityBytes: 1 << 20 });
    assert.equal(made.status, 201);
    const create = await spanOf('volume.create', made.traceId);
    assert.equal(create.parentSpanId, made.parent);
    assert.equal(create.kind, SERVER);
    assert.equal(create.attributes['stowage.target'], 'local/default/a');
    assert.equal(create.attributes['user.name'], 'admin');
    const asked = await spanOf('POST /v1/pools/{name}/volumes', made.traceId);
    assert.equal(asked.parentSpanId, create.spanId);
    assert.equal(asked.kind, CLIENT);
    assert.equal(asked.attributes['server.address'], 'local');

    const cloned = await call('POST', `${pool}/volumes/a/clone`, { name: 'b' });
    assert.equal(cloned.status, 202);
    const clone = await spanOf('volume.clone', cloned.traceId);
    const job = await spanOf('job clone', cloned.traceId);
    assert.equal(job.parentSpanId, clone.spanId);
    assert.equal(job.attributes['stowage.job'], cloned.body.id);
    assert.equal(job.attributes['stowage.target'], 'local/default/b');
    const steps = collector.spans.filter(({ parentSpanId }) => parentSpanId === job.spanId);
    assert.ok(steps.length > 0);
    assert.ok(
      collector.spans.some(
        ({ kind, parentSpanId }) => kind === CLIENT && steps.some(({ spanId }) => spanId === parentSpanId),
      ),
    );
    assert.deepEqual([...collector.paths], ['/otlp/v1/traces']);
    assert.equal(collector.headers[0]!['x-tenant'], 's3cret');
    assert.equal(collector.resource['service.name'], 'stowage-controller');
    assert.equal(collector.resource['deployment.environment.name'], 'test');
    assert.equal(typeof collector.resource['service.instance.id'], 'string');
  });

  test('what is refused is told by its code, and is an error only where it is not the caller’s', async () => {
    const absent = await call('GET', '/hosts/local/pools/default/volumes/absent');
    assert.equal(absent.status, 404);
    const refused = await spanOf('volume.show', absent.traceId);
    assert.equal(refused.attributes['error.type'], 'volume-not-found');
    assert.notEqual(refused.status?.code, ERROR);

    // It never dials in.
    await controller.api('/hosts/away/enrolment', {});
    const away = await call('GET', '/hosts/away/doctor');
    assert.equal(away.status, 503);
    const failed = await spanOf('host.doctor', away.traceId);
    assert.equal(failed.status?.code, ERROR);
    assert.equal(failed.attributes['error.type'], 'host-unreachable');
  });

  test('a trace that its caller does not sample is not sent, and nobody without a token begins one', async () => {
    const before = collector.spans.length;
    const quiet = await call('GET', '/hosts', undefined, false);
    const { traceId, parent } = newTrace();
    const stranger = await fetch(`${controller.url}/api/v1/hosts`, {
      headers: { traceparent: `00-${traceId}-${parent}-01` },
    });
    assert.equal(stranger.status, 401);
    const told = await call('GET', '/hosts');
    await spanOf('host.list', told.traceId);
    assert.ok(!collector.spans.slice(before).some((span) => [quiet.traceId, traceId].includes(span.traceId)));
    for (const bad of ['', '00-zz', `00-${'0'.repeat(32)}-${parent}-01`, 'x'.repeat(5000)])
      assert.equal((await controller.fetch('/hosts', { headers: { traceparent: bad } })).status, 200);
  });

  test('a job goes on with its trace when its controller was killed', async () => {
    const pool = join(room.path, 'slow');
    await controller.cliOk('pool', 'create-as', 'local', 'slow', 'dir', '--target', pool, '--build');
    const made = await call('POST', '/hosts/local/pools/slow/volumes', {
      name: 'v',
      format: 'raw',
      capacityBytes: 64 << 20,
    });
    assert.equal(made.status, 201);
    writeFileSync(join(pool, 'v'), randomBytes(64 << 20));
    const cloned = await call('POST', '/hosts/local/pools/slow/volumes/v/clone', { name: 'w' });
    await controller.kill();
    await controller.restart();
    const job = await spanOf('job clone', cloned.traceId);
    assert.equal(job.attributes['stowage.job'], cloned.body.id);
    assert.match(job.parentSpanId, /^[0-9a-f]{16}$/);
  });

  test('what is undone is in the trace, too', async () => {
    const moved = await call('POST', '/hosts/local/pools/slow/volumes/v/migrate', {
      target: 'local/default',
      limitBytesPerSecond: 4 << 20,
    });
    assert.equal(moved.status, 202);
    const job = `/jobs/${moved.body.id}`;
    await until('it runs', async () => (await controller.api<Job>(job)).doneBytes > 0);
    await controller.api(`${job}/cancel`, {});
    const undone = await spanOf('undo migrate', moved.traceId);
    assert.equal(undone.attributes['stowage.job'], moved.body.id);
    const cancelled = await spanOf('job migrate', moved.traceId);
    assert.equal(cancelled.attributes['error.type'], 'cancelled');
  });

  test('a collector that is away or never answers keeps nobody, and is told of once', async () => {
    collector.status = 503;
    await call('GET', '/hosts');
    await until('it is told', () => controller.log.includes('traces cannot be sent'), 30_000);
    await call('GET', '/hosts');
    collector.status = 200;
    await until(
      'it is told',
      async () => {
        await call('GET', '/hosts');
        return controller.log.includes('traces are sent again');
      },
      30_000,
    );
    assert.equal(controller.log.split('traces cannot be sent').length, 2);
    assert.ok(!controller.log.includes('s3cret'));
    collector.status = 'none';
    await call('GET', '/hosts');
    const begun = performance.now();
    await controller.kill('SIGTERM');
    // It waits two seconds for the collector, and would wait ten for what it sends.
    assert.ok(performance.now() - begun < 9000, 'it waited for the collector');
  });
});
