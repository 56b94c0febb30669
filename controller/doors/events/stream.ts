import { once } from 'node:events';
import { clock } from '../../../shared/util/clock.ts';
import { credentialsOf } from '../credentials.ts';
import type { Doors } from '../doors.ts';
import type { ApiHttp } from '../rest/http.ts';
import { PLAIN_HEADERS } from '../rest/plain-headers.ts';
import { sinceOf, watch } from './watcher.ts';

/** What passes through proxies that end silent connections. */
const COMMENT_MS = 15_000;

/**
 * Server-sent events: the `id` of each is its number, so that a browser, or `curl` with `Last-Event-ID`, goes on after a cut.
 * `since=` does the same.
 */
export function serveEventStream(http: ApiHttp, doors: Doors): void {
  // It asks by itself who reads, and goes on asking.
  http.get(
    '/api/v1/events',
    { config: { isPublic: true }, schema: { hide: true } },
    async (request, reply) => {
      const { 'last-event-id': last } = request.headers;
      const credentials = credentialsOf(request.raw);
      const principal = await doors.gate.authenticate(credentials, doors.sourceOf(request.raw), 'events');
      const leave = doors.eventReaders.enter(principal);
      const { since } = request.query as { since?: string };
      const gone = new AbortController();
      reply.raw.once('close', () => gone.abort());
      // It may have gone while it was looked up who reads: then nothing tells of it any more.
      if (request.raw.socket.destroyed) gone.abort();
      reply.hijack();
      reply.raw.writeHead(200, { ...PLAIN_HEADERS, 'content-type': 'text/event-stream' });
      reply.raw.flushHeaders();
      const comment = clock.every(COMMENT_MS, () => reply.raw.write(': alive\n\n'), false);
      try {
        await watch(
          doors,
          {
            ...{ principal, credentials },
            since: sinceOf(since ?? String(last ?? '')),
            async send(event) {
              const text = `id: ${event.seq}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;
              if (!reply.raw.write(text)) await once(reply.raw, 'drain', { signal: gone.signal });
            },
            end: () => reply.raw.destroy(),
          },
          gone.signal,
        );
      } finally {
        leave();
        comment.stop();
        reply.raw.end();
      }
    },
  );
}
