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
import { cut, toStowageError } from '../../shared/util/errors.ts';

/** What agents say may be long. */
const LONGEST_MESSAGE = 300;

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
 * code, and the status of the span is an error where the fault is not the caller's. Of what nobody has foreseen only the code is told:
 * its message is for the log.
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
      if (status >= 500)
        span.setStatus({
          code: SpanStatusCode.ERROR,
          message: code === 'internal' ? code : cut(message, LONGEST_MESSAGE),
        });
      if (isObject(error) && !thrownIn.has(error)) thrownIn.set(error, fieldsOf(span));
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

/** Does some work outside of every trace: what is tried again and again for days is no news. */
export const untraced = <T>(work: () => T): T => context.with(ROOT_CONTEXT, work);

/** By which somebody goes on later with the trace of what runs now; undefined where nothing is traced. */
export function traceparent(): string | undefined {
  const headers: { traceparent?: string } = {};
  propagation.inject(context.active(), headers);
  return headers.traceparent;
}

/** Whether what runs now is traced. */
export const isTraced = (): boolean => trace.getActiveSpan()?.isRecording() ?? false;

/** By which a line of the log is found from a trace, and the other way round. */
interface LogFields {
  trace_id?: string;
  span_id?: string;
}

/** The innermost span that an error was thrown in. */
const thrownIn = new WeakMap<object, LogFields>();
const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null;

function fieldsOf(span: Span | undefined): LogFields {
  if (!span?.isRecording()) return {};
  const { traceId, spanId } = span.spanContext();
  return { trace_id: traceId, span_id: spanId };
}

/** Of what runs now. */
export const logFields = (): LogFields => fieldsOf(trace.getActiveSpan());

/** Of the span that an error was thrown in, which may have ended. */
export const logFieldsOf = (error: unknown): LogFields => (isObject(error) && thrownIn.get(error)) || {};
