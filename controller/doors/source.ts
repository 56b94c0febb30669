import type { IncomingMessage } from 'node:http';
import proxyAddr from '@fastify/proxy-addr';

/** Where a request comes from: behind trusted proxies, as they say in `X-Forwarded-For`. */
export type SourceOf = (request: IncomingMessage) => string;

/** `proxies`: addresses and networks, such as `10.0.0.0/8`, whose word counts. */
export function sourceThrough(proxies: readonly string[]): SourceOf {
  const isTrusted = proxyAddr.compile([...proxies]);
  return (request) => {
    if (proxies.length === 0) return request.socket.remoteAddress ?? '';
    return proxyAddr(request, isTrusted) ?? '';
  };
}
