import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { promisify } from 'node:util';
import { qcow2 } from '../../agent/formats/qcow2/index.ts';
import { qcow2Bytes } from '../../agent/formats/qcow2/measure.ts';
import { MemoryImage, Pages } from '../../agent/images/memory-image.ts';
import { serveImage } from '../../agent/images/nbd-server.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { scratch } from '../support/scratch.ts';

const MIB = 1 << 20;
const run = promisify(execFile);
const room = scratch();
after(() => room[Symbol.asyncDispose]());

const nbdPath = (socket: string): string => `nbd+unix:///?socket=${socket}`;

test('qemu-img reads what is served, to a last sector that is not whole', async () => {
  const bytes = randomBytes(MIB + 100);
  const image = new MemoryImage(new Pages(bytes.length));
  await image.write(bytes, 0);
  await using served = await serveImage(image);
  const copy = join(room.path, 'copy');
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'raw', nbdPath(served.socket), copy]);
  const got = readFileSync(copy);
  assert.equal(got.length, MIB + 512);
  assert.ok(got.subarray(0, bytes.length).equals(bytes));
  assert.ok(got.subarray(bytes.length).every((byte) => byte === 0));
});

test('what the storage says reaches who asked, and not what qemu-img makes of it', async () => {
  const image = new MemoryImage(new Pages(64 * MIB));
  image.write = async () => {
    throw new StowageError('pool-inaccessible', 'the cluster has gone');
  };
  const volume = { name: 'v', capacityBytes: MIB, format: 'qcow2', preallocate: false } as const;
  await assert.rejects(qcow2.create(image, volume), { code: 'pool-inaccessible' });
});

test('a client that reads no answers gets no more of them, and nothing is done on the image once it is disposed', async () => {
  const image = new MemoryImage(new Pages(64 * MIB));
  let reads = 0;
  const read = image.read.bind(image);
  image.read = (buffer, offset) => {
    reads++;
    return read(buffer, offset);
  };
  const served = await serveImage(image);
  const socket = connect(served.socket);
  socket.on('error', () => undefined);
  const request = Buffer.alloc(28);
  request.writeUInt32BE(0x25609513);
  request.writeUInt32BE(MIB, 24);
  const exportName = Buffer.alloc(20);
  exportName.writeUInt32BE(3, 0);
  exportName.write('IHAVEOPT', 4);
  exportName.writeUInt32BE(1, 12);
  socket.pause();
  socket.write(exportName);
  for (let count = 0; count < 1000; count++) socket.write(request);
  for (let last = -1; last !== reads; ) {
    last = reads;
    await setTimeout(200);
  }
  assert.ok(reads > 0 && reads < 10, `${reads} of 1000 were read`);
  await served[Symbol.asyncDispose]();
  const before = reads;
  assert.ok(!existsSync(dirname(served.socket)));
  await setTimeout(100);
  assert.equal(reads, before);
  socket.destroy();
});

test('a qcow2 image that is written whole needs what was reckoned, as qemu-img measures it', async () => {
  for (const capacity of [1, 100, 4096, 1 << 20].map((mib) => mib * MIB))
    for (const [clusterBytes, extendedL2] of [
      [65_536, false],
      [65_536, true],
      [2 * MIB, false],
      [4096, false],
    ] as const) {
      const options = `cluster_size=${clusterBytes}${extendedL2 ? ',extended_l2=on' : ''}`;
      const measure = [
        'measure',
        '--output',
        'json',
        '--size',
        String(capacity),
        '-O',
        'qcow2',
        '-o',
        options,
      ];
      const { stdout } = await run('qemu-img', measure);
      const whole: number = JSON.parse(stdout)['fully-allocated'];
      const reckoned = qcow2Bytes(capacity, { clusterBytes, extendedL2 });
      assert.ok(reckoned >= whole, `${capacity} ${options}: ${reckoned} is less than ${whole}`);
      assert.ok(reckoned <= whole + 8 * clusterBytes, `${capacity} ${options}: ${reckoned}, not ${whole}`);
    }
});
