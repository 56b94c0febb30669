import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import fastifyCookie from '@fastify/cookie';
import helmet from '@fastify/helmet';
import rateLimit from '@fastify/rate-limit';
import swagger from '@fastify/swagger';
import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
  type RawServerDefault,
} from 'fastify';
import { jsonSchemaTransform, type ZodTypeProvider } from 'fastify-type-provider-zod';
import { XML_TYPE } from '../../../shared/conf/xml/write.ts';
import { EXTENTS_TYPE } from '../../../shared/transfer/frames.ts';
import { StowageError, toProblem, toStowageError } from '../../../shared/util/errors.ts';
import { VERSION } from '../../../shared/version.ts';
import { networkOf } from '../../auth/network.ts';
import { logFieldsOf } from '../../traces/span.ts';
import { rawAnswer } from '../raw-answer.ts';
import type { SourceOf } from '../source.ts';
import type { Certificate } from './certificate.ts';
import { PLAIN_HEADERS } from './plain-headers.ts';

export type ApiHttp = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  ZodTypeProvider
>;

interface ForeignError {
  statusCode?: number;
  message: string;
}

/** Fastify's own refusals in our words. */
function known(error: unknown): StowageError {
  const foreign = error as ForeignError;
  const status = foreign.statusCode;
  if (status === 413) return new StowageError('too-large', foreign.message);
  if (status === 429) return new StowageError('rate-limited', foreign.message);
  if (status && status >= 400 && status < 500 && !(error instanceof StowageError))
    return new StowageError('invalid-argument', foreign.message);
  return toStowageError(error);
}

/** A path that is badly written comes before all hooks: it is answered as everything else is. */
function refuseBadUrl(_error: unknown, _request: FastifyRequest, reply: FastifyReply): void {
  const refused = new StowageError('invalid-argument', 'the path of the URL is badly encoded');
  void reply
    .code(refused.status)
    .headers(PLAIN_HEADERS)
    .type('application/problem+json')
    .send(JSON.stringify(toProblem(refused)));
}

/** What is no HTTP, or more of it than we read, comes before everything else. */
function refuseBadRequest({ code }: NodeJS.ErrnoException, socket: Socket): void {
  if (code === 'ECONNRESET' || !socket.writable) return void socket.destroy();
  if (code === 'HPE_HEADER_OVERFLOW')
    socket.end(rawAnswer(new StowageError('too-large', 'the header of the request is too large'), 431));
  else if (code === 'ERR_HTTP_REQUEST_TIMEOUT')
    socket.end(rawAnswer(new StowageError('stream-cut', 'the request did not come to its end in time'), 408));
  else socket.end(rawAnswer(new StowageError('invalid-argument', 'this is no HTTP request')));
}

/** The API's HTTP: OpenAPI from the schemas of routes, problems as answers, streams as bodies. */
export async function createApiHttp(
  logger: FastifyBaseLogger,
  sourceOf: SourceOf,
  certificate: Certificate | undefined,
): Promise<ApiHttp> {
  const options = {
    loggerInstance: logger,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: 1 << 20,
    requestTimeout: 0,
    routerOptions: { maxParamLength: 1024 },
    frameworkErrors: refuseBadUrl,
    clientErrorHandler: refuseBadRequest,
  };
  const server = certificate
    ? // Over TLS it is the same but for the types of its sockets.
      (Fastify({
        ...options,
        https: { ...certificate, minVersion: 'TLSv1.2' },
      }) as unknown as FastifyInstance)
    : Fastify(options);
  const http = server.withTypeProvider<ZodTypeProvider>() as ApiHttp;
  // The schemas of routes describe them. Actions read their input themselves, for every door, and answer what they promise.
  http.setValidatorCompiler(() => (value) => ({ value }));
  http.setSerializerCompiler(() => (answer) => JSON.stringify(answer));
  await http.register(fastifyCookie);
  await http.register(helmet, {
    // The page has a policy of its own. What else is answered is no document, whoever opens it as one.
    contentSecurityPolicy: {
      useDefaults: false,
      directives: {
        defaultSrc: ["'none'"],
        frameAncestors: ["'none'"],
        baseUri: ["'none'"],
        formAction: ["'none'"],
      },
    },
    crossOriginEmbedderPolicy: true,
    xFrameOptions: { action: 'deny' },
  });
  // What only its caller may see stays in no cache, unless it says otherwise itself.
  http.addHook('onSend', async (_request, reply) => {
    if (!reply.hasHeader('cache-control')) void reply.header('cache-control', 'no-store');
  });
  await http.register(rateLimit, {
    global: true,
    max: 6000,
    timeWindow: '1 minute',
    keyGenerator: (request) => networkOf(sourceOf(request.raw)),
  });
  await http.register(swagger, {
    openapi: {
      info: {
        title: 'Stowage',
        version: VERSION,
        description:
          'Storage pools and volumes across a fleet of hosts. Errors are RFC 9457 problems with a stable `code`.',
      },
      components: { securitySchemes: { token: { type: 'http', scheme: 'bearer' } } },
      security: [{ token: [] }],
    },
    transform: jsonSchemaTransform,
  });
  for (const type of [EXTENTS_TYPE, 'application/octet-stream', '*']) {
    http.addContentTypeParser(type, (_request, payload, done) => done(null, payload));
  }
  http.addContentTypeParser<string>(XML_TYPE, { parseAs: 'string' }, (_request, text, done) =>
    done(null, text),
  );
  http.setErrorHandler((error, request, reply) => {
    const failure = known(error);
    if (failure.status >= 500 && failure.code === 'internal')
      request.log.error({ err: error, ...logFieldsOf(error) }, failure.message);
    // What was not read of a refused body is not worth reading.
    if (!request.raw.complete) void reply.header('connection', 'close');
    void reply.code(failure.status).type('application/problem+json').send(toProblem(failure));
  });
  // Before a byte of its body is read: anybody may send it.
  const limit = http.rateLimit();
  http.addHook('onRequest', async (request, reply) => {
    if (!request.is404) return;
    await limit.call(http, request, reply);
    throw new StowageError(
      'route-not-found',
      `${request.method} ${request.url.split('?')[0]} is not part of the API`,
    );
  });
  return http;
}
