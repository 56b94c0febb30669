import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { PassThrough } from 'node:stream';
import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyTypeProvider,
  type RawServerDefault,
} from 'fastify';
import { z } from 'zod';
import { EXTENTS_TYPE } from '../shared/transfer/frames.ts';
import { StowageError, toProblem, toStowageError } from '../shared/util/errors.ts';

interface ZodProvider extends FastifyTypeProvider {
  validator: this['schema'] extends z.ZodType ? z.output<this['schema']> : unknown;
  serializer: this['schema'] extends z.ZodType ? z.input<this['schema']> : unknown;
}

export type AgentHttp = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  ZodProvider
>;

export const JSON_LINES = 'application/x-ndjson';

/** An answer that goes on: one JSON value a line, as things happen. */
export class JsonLines {
  readonly stream = new PassThrough();

  write(value: unknown): void {
    this.stream.write(`${JSON.stringify(value)}\n`);
  }

  end(): void {
    this.stream.end();
  }
}

/** Streams that end when the request is cut: handlers pass it on to what they started. */
export function abortSignal(request: { raw: IncomingMessage }): AbortSignal {
  const controller = new AbortController();
  const socket = request.raw.socket;
  const abort = (): void =>
    controller.abort(new StowageError('cancelled', 'the controller ended the request'));
  if (socket.destroyed) abort();
  socket.once('close', abort);
  return controller.signal;
}

/** Fastify with zod at the edge, problems as answers, and our two kinds of byte streams as bodies. */
export function createHttp(): { http: AgentHttp; server: Server } {
  const server = createServer({ requestTimeout: 0, headersTimeout: 60_000, keepAliveTimeout: 60_000 });
  const http = Fastify({
    bodyLimit: 1 << 20,
    routerOptions: { maxParamLength: 1024 },
    serverFactory: (handler) => server.on('request', handler),
  }).withTypeProvider<ZodProvider>();

  http.setValidatorCompiler<z.ZodType>(({ schema }) => (data: unknown) => {
    const parsed = schema.safeParse(data);
    if (parsed.success) return { value: parsed.data };
    return { error: new StowageError('invalid-argument', z.prettifyError(parsed.error).slice(0, 500)) };
  });
  http.setSerializerCompiler(() => (data: unknown) => JSON.stringify(data));
  for (const type of [EXTENTS_TYPE, 'application/octet-stream']) {
    http.addContentTypeParser(type, (_request, payload, done) => done(null, payload));
  }
  http.setErrorHandler((error, _request, reply) => {
    const given = error as { validation?: unknown; statusCode?: number; message: string };
    const known =
      given.statusCode && given.statusCode < 500 && !('status' in given)
        ? new StowageError(given.statusCode === 413 ? 'too-large' : 'invalid-argument', given.message)
        : toStowageError(error);
    void reply.code(known.status).type('application/problem+json').send(toProblem(known));
  });
  http.setNotFoundHandler((request, reply) => {
    const problem = toProblem(
      new StowageError('route-not-found', `${request.method} ${request.url} is not served`),
    );
    void reply.code(404).type('application/problem+json').send(problem);
  });
  return { http, server };
}
