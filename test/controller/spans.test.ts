import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { context, propagation, SpanStatusCode, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import { InMemorySpanExporter, SimpleSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';
import {
  inSpan,
  isTraced,
  logFields,
  logFieldsOf,
  traceparent,
  untraced,
} from '../../controller/traces/span.ts';
import { StowageError } from '../../shared/util/errors.ts';

const exporter = new InMemorySpanExporter();
before(() => {
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  propagation.setGlobalPropagator(new W3CTraceContextPropagator());
  trace.setGlobalTracerProvider(
    new TracerProvider({ spanProcessors: [new SimpleSpanProcessor({ exporter })] }),
  );
});
beforeEach(() => exporter.reset());
after(() => {
  for (const api of [trace, propagation, context]) api.disable();
});

const ended = (name: string) => exporter.getFinishedSpans().find((span) => span.name === name)!;

test('spans are in each other; what runs elsewhere, or later, is in none', async () => {
  let later: string | undefined;
  await inSpan('outer', {}, async (outer) => {
    await inSpan('inner', { kind: 'client' }, async () => {
      assert.equal(logFields().trace_id, outer.spanContext().traceId);
      later = traceparent();
    });
    await untraced(async () => {
      assert.equal(isTraced(), false);
      assert.deepEqual(logFields(), {});
    });
  });
  assert.equal(traceparent(), undefined);
  await inSpan('job', { parent: later }, async () => undefined);
  await inSpan('alone', { parent: null }, async () => undefined);
  const [outer, inner, job, alone] = ['outer', 'inner', 'job', 'alone'].map(ended);
  assert.equal(inner!.parentSpanContext?.spanId, outer!.spanContext().spanId);
  assert.equal(job!.parentSpanContext?.spanId, inner!.spanContext().spanId);
  assert.equal(alone!.parentSpanContext, undefined);
});

test('an error is thrown on, told by its code, and known by the innermost span; nothing unforeseen is told', async () => {
  const secret = new Error('password=s3cret at line 7');
  await assert.rejects(
    inSpan('outer', {}, () =>
      inSpan('inner', {}, async () => {
        throw secret;
      }),
    ),
    secret,
  );
  assert.equal(logFieldsOf(secret).span_id, ended('inner').spanContext().spanId);
  assert.deepEqual(ended('outer').status, { code: SpanStatusCode.ERROR, message: 'internal' });
  assert.ok(!JSON.stringify(ended('inner').attributes).includes('s3cret'));

  const long = new StowageError('host-unreachable', 'x'.repeat(5000));
  await assert.rejects(
    inSpan('long', {}, async () => {
      throw long;
    }),
    long,
  );
  assert.equal(ended('long').status.message!.length, 301);
  const missing = new StowageError('volume-not-found', 'no such volume');
  await assert.rejects(
    inSpan('missing', {}, async () => {
      throw missing;
    }),
    missing,
  );
  assert.equal(ended('missing').status.code, SpanStatusCode.UNSET);
  assert.equal(ended('missing').attributes['error.type'], 'volume-not-found');
  assert.deepEqual(logFieldsOf('no object'), {});
});
