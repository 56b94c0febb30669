import type { Traffic } from '../../metrics/traffic.ts';
import type { ApiHttp } from './http.ts';

/** Counts what is received and sent for actions on volumes, as their connections count it: heads of requests and answers are in it. */
export function countTraffic(http: ApiHttp, traffic: Traffic): void {
  /** Of connections that are answered on: what they had carried before. */
  const before = new WeakMap<object, { bytesRead: number; bytesWritten: number }>();
  http.addHook('onRequest', async ({ raw: { socket } }) => {
    before.set(socket, { bytesRead: socket.bytesRead, bytesWritten: socket.bytesWritten });
  });
  http.addHook('onResponse', async ({ routeOptions, raw: { socket } }) => {
    const counted = before.get(socket);
    if (!counted || !routeOptions.config.action?.name.startsWith('volume.')) return;
    traffic.add('received', socket.bytesRead - counted.bytesRead);
    traffic.add('sent', socket.bytesWritten - counted.bytesWritten);
  });
}
