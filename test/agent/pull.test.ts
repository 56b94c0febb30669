import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { describe, test } from 'node:test';
import { connect, TLSSocket, type TLSSocketOptions } from 'node:tls';
import { SourceDoor } from '../../agent/transfer/door.ts';
import { CHUNK_BYTES, ChunkMap } from '../../shared/transfer/chunks.ts';
import { frameHeader } from '../../shared/transfer/frames.ts';
import { Outgoing } from '../../shared/transfer/outgoing.ts';
import { PullConnection } from '../../shared/transfer/pull-connection.ts';
import { preSharedKey, secureContext } from '../../shared/transfer/tls.ts';

const ticket = () => ({ transfer: crypto.randomUUID(), secret: randomBytes(32).toString('base64url') });
const map = new ChunkMap([{ name: '', sizeBytes: 4 * CHUNK_BYTES, dense: false }]);

/** One data frame of four bytes and the digest of the chunk it makes. */
async function smallChunk(index: number): Promise<Buffer[]> {
  const bytes = Buffer.alloc(CHUNK_BYTES);
  bytes.fill(1, 0, 4);
  const at = index * CHUNK_BYTES;
  return [
    frameHeader('data', at, 4),
    bytes.subarray(0, 4),
    frameHeader('chunk', at, CHUNK_BYTES),
    await map.digestOf(bytes),
  ];
}
const same = (index: number): Buffer => frameHeader('same', index * CHUNK_BYTES, 0);

/** A sink connected to a source that has the ticket and answers everything with the same bytes. */
async function broken(answer: Buffer[], check: (connection: PullConnection) => Promise<void>): Promise<void> {
  const shared = ticket();
  const server = createServer((stream) => {
    const options = { isServer: true, secureContext, pskCallback: () => preSharedKey(shared) };
    const socket = new TLSSocket(stream, options as TLSSocketOptions);
    socket.on('error', () => undefined);
    socket.on('data', () => socket.write(Buffer.concat(answer)));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    const way = { address: '127.0.0.1', port: (server.address() as AddressInfo).port };
    using connection = new PullConnection(way, shared, map, async () => undefined);
    await connection.opened();
    await check(connection);
  } finally {
    server.close();
  }
}

describe('a sink that fetches', () => {
  const corrupt = { code: 'stream-corrupt' };

  test('takes the chunk it asked for', async () => {
    await broken([...(await smallChunk(1)), same(1)], (connection) => connection.want(1));
  });

  test('cuts off a source that sends another chunk, or more than one', async () => {
    const two = [...(await smallChunk(1)), ...(await smallChunk(1)), same(1)];
    await broken(two, (connection) => assert.rejects(connection.want(1), corrupt));
    await broken(two, (connection) => assert.rejects(connection.want(0), corrupt));
    await broken([frameHeader('zero', 0, 4 * CHUNK_BYTES), same(0)], (connection) =>
      assert.rejects(connection.want(0), corrupt),
    );
  });

  test('cuts off a source that says it sent a chunk and did not', async () => {
    await broken([same(1)], (connection) => assert.rejects(connection.want(1), corrupt));
  });

  test('takes no data, and no zeros twice, when it asks for the zeros', async () => {
    const zeros = frameHeader('zero', 0, 2 * CHUNK_BYTES);
    await broken([zeros, zeros], (connection) => assert.rejects(connection.zeros(), corrupt));
    await broken(await smallChunk(0), (connection) => assert.rejects(connection.zeros(), corrupt));
  });

  test('is told when the stream it was brought is gone before the handshake', async () => {
    const server = createServer((stream) => stream.destroy()).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const way = { address: '127.0.0.1', port: (server.address() as AddressInfo).port };
    using connection = new PullConnection(way, ticket(), map, async () => undefined);
    await assert.rejects(connection.opened());
    server.close();
  });
});

describe('the door of a source', () => {
  const source = {
    layout: {
      parts: map.parts as never,
      format: 'raw' as const,
      capacityBytes: 4 * CHUNK_BYTES,
      volumeId: crypto.randomUUID(),
      etag: 'e',
    },
    sources: [
      {
        sizeBytes: 4 * CHUNK_BYTES,
        async *extents() {},
        read: async () => undefined,
        close: async () => undefined,
      },
    ],
    checkUnchanged: async () => undefined,
    [Symbol.asyncDispose]: async () => undefined,
  };
  const open = (shared: ReturnType<typeof ticket>) =>
    SourceDoor.open({
      outgoing: new Outgoing(source, 'gmac'),
      ticket: shared,
      expiresAt: Date.now() + 60_000,
      onRefused: () => undefined,
    });

  test('a session of one transfer opens no other', async () => {
    const shared = ticket();
    using first = await open(shared);
    using second = await open(ticket());
    const psk = { identity: shared.transfer, psk: preSharedKey(shared) };
    const admitted = connect({
      host: '127.0.0.1',
      port: first.offer.port,
      secureContext,
      pskCallback: () => psk,
      checkServerIdentity: () => undefined,
    });
    const sessions: Buffer[] = [];
    admitted.on('session', (session) => sessions.push(session));
    await once(admitted, 'secureConnect');
    admitted.write(Buffer.alloc(1));
    await new Promise((resolve) => setTimeout(resolve, 200));
    const session = sessions[0] ?? admitted.getSession();
    admitted.destroy();
    const other = connect({ host: '127.0.0.1', port: second.offer.port, session, rejectUnauthorized: false });
    await assert.rejects(once(other, 'secureConnect'));
  });
});
