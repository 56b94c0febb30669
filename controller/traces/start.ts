import { context, type DiagLogger, DiagLogLevel, diag, propagation, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { type ExportResult, ExportResultCode, W3CTraceContextPropagator } from '@opentelemetry/core';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { detectResources, envDetector, resourceFromAttributes } from '@opentelemetry/resources';
import {
  BatchSpanProcessor,
  ParentBasedSampler,
  type ReadableSpan,
  type Sampler,
  type SpanExporter,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from '@opentelemetry/sdk-trace';
import type { Logger } from 'pino';
import { clock, sleep } from '../../shared/util/clock.ts';
import { cut } from '../../shared/util/errors.ts';
import { VERSION } from '../../shared/version.ts';

/** What is not sent then is lost: nobody waits longer for it. */
const CLOSE_MS = 2000;
/** So long a span waits for others that go with it. */
const GATHER_MS = 1000;
/** Longer values are cut off. */
const LONGEST_VALUE = 1024;
const LONGEST_REASON = 300;
/** What the library complains of is logged so often at most. */
const COMPLAINT_MS = 60_000;

export interface TracesOptions {
  /** Where spans are sent by OTLP over HTTP; where the variables of OpenTelemetry say unless given. */
  url?: string;
  headers?: Record<string, string>;
  /** PEM: who vouches for the collector. */
  ca?: string;
  /** Which part of the traces is sent, from 0 to 1. */
  sample: number;
  /** What a caller has decided of its trace is heeded. */
  followsCaller: boolean;
}

export interface Traces {
  /** Sends what there is, and waits 2 s for that at most. */
  close(): Promise<void>;
}

/**
 * Begins to send traces to a collector. One that is away, slow or full keeps nothing from its work: up to 2,048 spans wait for it,
 * and what is more is lost. That it cannot be reached, and that it can again, is logged once each; how much was lost, once a minute.
 */
export function startTraces(options: TracesOptions, controllerId: string, logger: Logger): Traces {
  const { url, headers, ca, sample, followsCaller } = options;
  const exporter = new OTLPTraceExporter({
    url,
    headers,
    ...(ca !== undefined && { httpAgentOptions: { ca, keepAlive: true } }),
  });
  const ratio: Sampler = new TraceIdRatioBasedSampler(sample);
  const provider = new TracerProvider({
    sampler: followsCaller ? new ParentBasedSampler({ root: ratio }) : ratio,
    resource: resourceFromAttributes({
      'service.name': 'stowage-controller',
      'service.version': VERSION,
      'service.instance.id': controllerId,
    }).merge(detectResources({ detectors: [envDetector] })),
    spanLimits: { attributeValueLengthLimit: LONGEST_VALUE },
    spanProcessors: [
      new BatchSpanProcessor({
        exporter: new ToldExporter(exporter, logger),
        scheduledDelayMillis: GATHER_MS,
      }),
    ],
  });
  diag.setLogger(complaints(logger), DiagLogLevel.WARN);
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  propagation.setGlobalPropagator(new W3CTraceContextPropagator());
  trace.setGlobalTracerProvider(provider);
  return {
    async close() {
      const sent = provider.shutdown().catch(() => undefined);
      await Promise.race([sent, sleep(CLOSE_MS)]);
      for (const api of [trace, propagation, context, diag]) api.disable();
    },
  };
}

/** Of what the library complains, such as that spans are lost. */
function complaints(logger: Logger): DiagLogger {
  let last = Number.NEGATIVE_INFINITY;
  const complain = (message: string): void => {
    const now = clock.monotonicMs();
    if (now - last < COMPLAINT_MS) return;
    last = now;
    logger.warn({ reason: cut(message, LONGEST_REASON) }, 'traces are incomplete');
  };
  const ignore = (): void => undefined;
  return { error: complain, warn: complain, info: ignore, debug: ignore, verbose: ignore };
}

/** Tells in the log when spans cannot be sent, and when they can again. */
class ToldExporter implements SpanExporter {
  readonly #exporter: SpanExporter;
  readonly #logger: Logger;
  #fails = false;

  constructor(exporter: SpanExporter, logger: Logger) {
    this.#exporter = exporter;
    this.#logger = logger;
  }

  export(spans: ReadableSpan[], done: (result: ExportResult) => void): void {
    this.#exporter.export(spans, (result) => {
      const fails = result.code === ExportResultCode.FAILED;
      // Not the error itself: it has the whole answer in it.
      const reason = cut(result.error?.message || 'the collector refused them', LONGEST_REASON);
      if (fails && !this.#fails) this.#logger.warn({ reason }, 'traces cannot be sent');
      if (!fails && this.#fails) this.#logger.warn('traces are sent again');
      this.#fails = fails;
      // It is told of here, once.
      done({ code: ExportResultCode.SUCCESS });
    });
  }

  async forceFlush(): Promise<void> {
    await this.#exporter.forceFlush?.();
  }

  shutdown(): Promise<void> {
    return this.#exporter.shutdown();
  }
}
