import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import protobuf from 'protobufjs';
import { z } from 'zod';

/** What is read here of https://github.com/open-telemetry/opentelemetry-proto. */
const SCHEMA = `
syntax = "proto3";
message Request { repeated ResourceSpans resource_spans = 1; }
message ResourceSpans { Resource resource = 1; repeated ScopeSpans scope_spans = 2; }
message Resource { repeated KeyValue attributes = 1; }
message ScopeSpans { repeated Span spans = 2; }
message Span {
  bytes trace_id = 1; bytes span_id = 2; bytes parent_span_id = 4; string name = 5; int32 kind = 6;
  repeated KeyValue attributes = 9; Status status = 15;
}
message Status { string message = 2; int32 code = 3; }
message KeyValue { string key = 1; AnyValue value = 2; }
message AnyValue { oneof value { string string_value = 1; bool bool_value = 2; int64 int_value = 3; double double_value = 4; } }
`;

const attributesSchema = z
  .array(z.object({ key: z.string(), value: z.record(z.string(), z.unknown()) }))
  .default([])
  .transform((all) => Object.fromEntries(all.map(({ key, value }) => [key, Object.values(value)[0]])));
const id = z.string().default('');
const spanSchema = z.object({
  traceId: id,
  spanId: id,
  parentSpanId: id,
  name: z.string(),
  kind: z.number(),
  attributes: attributesSchema,
  status: z.object({ code: z.number().default(0), message: z.string().default('') }).optional(),
});
const requestSchema = z.object({
  resourceSpans: z.array(
    z.object({
      resource: z.object({ attributes: attributesSchema }),
      scopeSpans: z.array(z.object({ spans: z.array(spanSchema) })),
    }),
  ),
});

export type ReceivedSpan = z.infer<typeof spanSchema>;

/** A collector of traces, OTLP over HTTP: it keeps what it gets, or answers with the status that is set, or not at all. */
export class TestCollector implements Disposable {
  readonly spans: ReceivedSpan[] = [];
  readonly headers: IncomingHttpHeaders[] = [];
  resource: Record<string, unknown> = {};
  paths = new Set<string>();
  status: number | 'none' = 200;
  url = '';
  readonly #server = createServer();

  static async start(): Promise<TestCollector> {
    const collector = new TestCollector();
    const type = protobuf.parse(SCHEMA).root.lookupType('Request');
    collector.#server.on('request', async (request, response) => {
      const body = await buffer(request);
      const { status } = collector;
      if (status === 'none') return;
      collector.paths.add(request.url ?? '');
      collector.headers.push(request.headers);
      if (status === 200) collector.#take(type.toObject(type.decode(body), { bytes: String, longs: Number }));
      response.writeHead(status, { 'content-type': 'application/x-protobuf' }).end();
    });
    collector.#server.listen(0, '127.0.0.1');
    await once(collector.#server, 'listening');
    collector.url = `http://127.0.0.1:${(collector.#server.address() as AddressInfo).port}`;
    return collector;
  }

  #take(message: unknown): void {
    const hex = (text: string): string => Buffer.from(text, 'base64').toString('hex');
    for (const { resource, scopeSpans } of requestSchema.parse(message).resourceSpans) {
      this.resource = resource.attributes;
      for (const span of scopeSpans.flatMap(({ spans }) => spans))
        this.spans.push({
          ...span,
          traceId: hex(span.traceId),
          spanId: hex(span.spanId),
          parentSpanId: hex(span.parentSpanId),
        });
    }
  }

  [Symbol.dispose](): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}
