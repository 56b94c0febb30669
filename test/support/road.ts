import { connect, createServer, type Socket } from 'node:net';
import { freePort } from './hosts.ts';

export interface RoadOptions {
  /** Cut a connection that has brought so many bytes back, `cuts` times. */
  cutBytes?: number;
  cuts?: number;
  /** Pass nothing more on after so many. */
  stallBytes?: number;
}

/** A road to a port of this machine, which counts what passes in both directions, and breaks as it is told to. */
export async function openRoad(
  to: number,
  { cutBytes = 0, cuts = 0, stallBytes = Infinity }: RoadOptions = {},
) {
  const port = await freePort();
  /** `bytes` came back, `sentBytes` went there. */
  const road = { port, url: `http://127.0.0.1:${port}`, bytes: 0, sentBytes: 0, cuts };
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect(to, '127.0.0.1');
    let bytes = 0;
    near.on('data', (data) => {
      road.sentBytes += data.length;
    });
    far.on('data', (data) => {
      bytes += data.length;
      road.bytes += data.length;
      near.write(data);
      if (bytes > stallBytes) far.pause();
      if (bytes < cutBytes || road.cuts <= 0) return;
      road.cuts--;
      near.destroy();
      far.destroy();
    });
    near.pipe(far);
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(one);
      one.on('error', () => other.destroy());
      one.on('close', () => other.destroy());
    }
  });
  await new Promise<void>((done) => server.listen(port, '127.0.0.1', done));
  return Object.assign(road, {
    [Symbol.dispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  });
}
