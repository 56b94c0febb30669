import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { ByteChannel } from '../../agent/pools/byte-channel.ts';
import { scratch } from '../support/scratch.ts';

async function pair(): Promise<{ sockets: [Socket, Socket]; ends: [ByteChannel, ByteChannel] }> {
  await using room = scratch();
  const server = createServer();
  await new Promise<void>((resolve) => void server.listen(join(room.path, 'socket'), resolve));
  const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve));
  const sockets: [Socket, Socket] = [connect(join(room.path, 'socket')), await accepted];
  server.close();
  return { sockets, ends: [new ByteChannel(sockets[0]), new ByteChannel(sockets[1])] };
}

test('parcels reach the calls that they belong to, in any order, also none at all', async () => {
  const { sockets, ends } = await pair();
  const parcels = Array.from({ length: 40 }, (_, id) => ({ id, bytes: randomBytes(id * 50_000) }));
  const targets = parcels.map(({ bytes }) => Buffer.alloc(bytes.length));
  const sent = parcels.map(({ id, bytes }) => ends[0].send(id, bytes));
  const got = await Promise.all(
    parcels.toReversed().map(async ({ id }) => ({ id, bytes: await ends[1].receive(id, targets[id]) })),
  );
  await Promise.all(sent);
  for (const { id, bytes } of got) assert.ok(Buffer.from(bytes).equals(parcels[id]!.bytes), `parcel ${id}`);
  for (const socket of sockets) socket.destroy();
});

test('memory of a call that is over is not written to any more, and what follows arrives', async () => {
  const { sockets, ends } = await pair();
  const target = Buffer.alloc(4 << 20);
  ends[1].receive(1, target).catch(() => undefined);
  ends[1].forget(1, true);
  await Promise.all([
    ends[0].send(1, Buffer.alloc(4 << 20, 9)),
    ends[0].send(2, Buffer.from('next')),
    ends[1].receive(2).then((bytes) => assert.equal(Buffer.from(bytes).toString(), 'next')),
  ]);
  assert.ok(target.every((byte) => byte === 0));
  for (const socket of sockets) socket.destroy();
});

test('what waits for a process that has ended fails, then and later', async () => {
  const { sockets, ends } = await pair();
  const waiting = ends[1].receive(1, Buffer.alloc(10));
  sockets[0].destroy();
  await assert.rejects(waiting, /has ended/);
  await assert.rejects(ends[1].receive(2, Buffer.alloc(10)), /has ended/);
  await assert.rejects(ends[1].send(3, Buffer.alloc(10)), /has ended/);
});
