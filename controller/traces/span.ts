import {
  type Attributes,
  type Context,
  context,
  propagation,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
} from '@opentelemetry/api';
import { toStowageError } from '../../shared/util/errors.ts';

/** Does nothing, and costs next to nothing, until traces are begun: see `start.ts`. */
const tracer = trace.getTracer('stowage');

const KINDS = { server: SpanKind.SERVER, client: SpanKind.CLIENT, internal: SpanKind.INTERNAL } as const;

export interface SpanOptions {
  /** `server`: somebody has asked us; `client`: we ask somebody. */
  kind?: keyof typeof KINDS;
  attributes?: Attributes;
  /** The `traceparent` that the span goes on from, or null for a new trace; what runs now unless given. */
  parent?: string | null;
}

/**
 * Does some work in a span of its own, which ends with the work. What it throws is thrown, and is in the span: `error.type` is its
 * code, and the status of the span is an error where the fault is not the caller's.
 */
export function inSpan<T>(name: string, options: SpanOptions, work: (span: Span) => Promise<T>): Promise<T> {
  const { kind = 'internal', attributes, parent } = options;
  const from = parent === undefined ? context.active() : contextOf({ traceparent: parent ?? undefined });
  return tracer.startActiveSpan(name, { kind: KINDS[kind], attributes }, from, async (span) => {
    try {
      return await work(span);
    } catch (error) {
      const { code, message, status } = toStowageError(error);
      span.setAttribute('error.type', code);
      if (status >= 500) span.setStatus({ code: SpanStatusCode.ERROR, message });
      throw error;
    } finally {
      span.end();
    }
  });
}

const contextOf = (headers: Record<string, unknown>): Context => propagation.extract(ROOT_CONTEXT, headers);

/** Does some work as part of the trace that the headers of a request name, if they do (W3C Trace Context). */
export const inTraceOf = <T>(headers: Record<string, unknown>, work: () => T): T =>
  context.with(contextOf(headers), work);

/** The headers by which whom we ask goes on with what runs now: none where nothing is traced. */
export function traceHeaders(): { traceparent?: string; tracestate?: string } {
  const headers = {};
  propagation.inject(context.active(), headers);
  return headers;
}

/** Whether what runs now is traced. */
export const isTraced = (): boolean => trace.getActiveSpan()?.isRecording() ?? false;

/** By which a line of the log is found from a trace, and the other way round. */
export function logFields(): { trace_id?: string; span_id?: string } {
  const active = isTraced() ? trace.getActiveSpan()?.spanContext() : undefined;
  return active ? { trace_id: active.traceId, span_id: active.spanId } : {};
}
