import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isZero } from '../host/files.ts';
import type { Image } from './image.ts';

// The numbers of the NBD protocol: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
const NBDMAGIC = 0x4e42444d41474943n;
const IHAVEOPT = 0x49484156454f5054n;
const OPTION_REPLY = 0x3e889045565a9n;
const REQUEST = 0x25609513;
const REPLY = 0x67446698;
const FIXED_NEWSTYLE = 1;
const NO_ZEROES = 2;
const OPTIONS = { exportName: 1, abort: 2, info: 6, go: 7 };
const REPLIES = { ack: 1, info: 3, unsupported: 0x80000001 };
const INFO_EXPORT = 0;
const COMMANDS = { read: 0, write: 1, disconnect: 2, flush: 3, trim: 4, zeroes: 6 };
/** What this server can: flags, flush, trim, write zeroes. */
const ABILITIES = 1 | (1 << 2) | (1 << 5) | (1 << 6);
const NO_HOLE = 1 << 1;
const ERRORS: Record<string, number> = { EIO: 5, ENOSPC: 28, 'no-space': 28, EINVAL: 22 };
/** What a request may ask for, or bring, at once: qemu's own limit. */
const MOST_BYTES = 32 << 20;

/** Reads a socket by lengths. */
class Reader {
  readonly #parts: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(socket: Socket) {
    this.#parts = socket[Symbol.asyncIterator]();
  }

  /** undefined where the other side ends before. */
  async take(length: number): Promise<Buffer | undefined> {
    const parts = [this.#rest];
    let have = this.#rest.length;
    while (have < length) {
      const { value, done } = await this.#parts.next();
      if (done) return undefined;
      parts.push(value);
      have += value.length;
    }
    const all = parts.length === 1 ? this.#rest : Buffer.concat(parts);
    this.#rest = all.subarray(length);
    return all.subarray(0, length);
  }
}

function numbers(...fields: [bytes: 2 | 4 | 8, value: number | bigint][]): Buffer {
  const buffer = Buffer.alloc(fields.reduce((sum, [bytes]) => sum + bytes, 0));
  let at = 0;
  for (const [bytes, value] of fields) {
    if (bytes === 2) buffer.writeUInt16BE(Number(value), at);
    else if (bytes === 4) buffer.writeUInt32BE(Number(value), at);
    else buffer.writeBigUInt64BE(BigInt(value), at);
    at += bytes;
  }
  return buffer;
}

/** Settles the options; false where the client goes. */
async function negotiate(socket: Socket, reader: Reader, { sizeBytes }: Export): Promise<boolean> {
  socket.write(numbers([8, NBDMAGIC], [8, IHAVEOPT], [2, FIXED_NEWSTYLE | NO_ZEROES]));
  const flags = await reader.take(4);
  if (!flags) return false;
  for (;;) {
    const head = await reader.take(16);
    if (head?.readBigUInt64BE() !== IHAVEOPT) return false;
    const [option, length] = [head.readUInt32BE(8), head.readUInt32BE(12)];
    if (length > 4096 || !(await reader.take(length))) return false;
    const reply = (type: number, data: Buffer = Buffer.alloc(0)): void =>
      void socket.write(
        Buffer.concat([numbers([8, OPTION_REPLY], [4, option], [4, type], [4, data.length]), data]),
      );
    if (option === OPTIONS.exportName) {
      const zeroes = (flags.readUInt32BE() & NO_ZEROES) === 0 ? 124 : 0;
      socket.write(Buffer.concat([numbers([8, sizeBytes], [2, ABILITIES]), Buffer.alloc(zeroes)]));
      return true;
    }
    if (option === OPTIONS.info || option === OPTIONS.go) {
      reply(REPLIES.info, numbers([2, INFO_EXPORT], [8, sizeBytes], [2, ABILITIES]));
      reply(REPLIES.ack);
      if (option === OPTIONS.go) return true;
    } else if (option === OPTIONS.abort) {
      reply(REPLIES.ack);
      return false;
    } else reply(REPLIES.unsupported);
  }
}

/** qemu waits for ever for the end of an export that is no whole number of sectors. */
const SECTOR = 512;
const exportedBytes = ({ sizeBytes }: Image): number => Math.ceil(sizeBytes / SECTOR) * SECTOR;

/** An image as it is given out: `sizeBytes` may be more than it has. */
interface Export {
  readonly image: Image;
  readonly sizeBytes: number;
  /** What the image threw first: a client learns no more of it than a number. */
  failure?: unknown;
}

interface Request {
  command: number;
  flags: number;
  offset: number;
  length: number;
  /** What a write brings, or what a read is to be put into. */
  bytes: Buffer;
}

/** Does what was asked for. Gives the number of an error, or 0. */
async function perform(served: Export, request: Request): Promise<number> {
  const { image, sizeBytes } = served;
  const { command, flags, offset, bytes } = request;
  if (offset + request.length > sizeBytes) return ERRORS.EINVAL!;
  const grows = sizeBytes > exportedBytes(image);
  // Behind its end there are zeros. In the last sector they stay zeros; where it may grow, a write makes it longer.
  const there = Math.max(0, Math.min(request.length, image.sizeBytes - offset));
  const length = command === COMMANDS.write && grows ? request.length : there;
  try {
    if (command === COMMANDS.read) await image.read(bytes.subarray(0, length), offset);
    else if (command === COMMANDS.write) {
      if (!isZero(bytes.subarray(length))) return ERRORS.ENOSPC!;
      await image.write(bytes.subarray(0, length), offset);
    } else if (command === COMMANDS.flush) await image.flush();
    else if (command === COMMANDS.trim) await image.zero(offset, length);
    else if (command === COMMANDS.zeroes) await image.zero(offset, length, (flags & NO_HOLE) !== 0);
    else return ERRORS.EINVAL!;
    return 0;
  } catch (error) {
    served.failure ??= error;
    return ERRORS[(error as { code?: string }).code ?? ''] ?? ERRORS.EIO!;
  }
}

/** Settles when the client has taken it: who reads no answers gets no more of them. */
function send(socket: Socket, bytes: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    const closed = (): void => reject(new Error('the client has gone'));
    socket.once('close', closed);
    socket.write(bytes, (error) => {
      socket.off('close', closed);
      if (error) reject(error);
      else resolve();
    });
  });
}

/** Answers requests one after the other until the client goes. */
async function serve(socket: Socket, reader: Reader, served: Export): Promise<void> {
  for (;;) {
    const head = await reader.take(28);
    if (head?.readUInt32BE() !== REQUEST) return;
    const [flags, command] = [head.readUInt16BE(4), head.readUInt16BE(6)];
    const offset = Number(head.readBigUInt64BE(16));
    const length = head.readUInt32BE(24);
    if (command === COMMANDS.disconnect) return;
    const moved = command === COMMANDS.read || command === COMMANDS.write ? length : 0;
    if (moved > MOST_BYTES) return;
    const bytes = command === COMMANDS.write ? await reader.take(length) : Buffer.alloc(moved);
    if (!bytes) return;
    const error = await perform(served, { command, flags, offset, length, bytes });
    const reply = Buffer.concat([numbers([4, REPLY], [4, error]), head.subarray(8, 16)]);
    await send(socket, command === COMMANDS.read && error === 0 ? Buffer.concat([reply, bytes]) : reply);
  }
}

export interface ServedImage extends AsyncDisposable {
  /** The path of the socket. */
  readonly socket: string;
  /** What the image threw first, if anything: a client is told of no more than a number. */
  readonly failure: unknown;
}

/**
 * Gives one image to tools of this host by the NBD protocol, on a socket in a directory that only this user can enter. For an image
 * that is no file and no device: what a library or a server gives out. It seems to be `growBytes` larger than it is; writes there make
 * it longer. Once disposed nobody works on the image any more, and the socket is gone.
 */
export async function serveImage(image: Image, growBytes = 0): Promise<ServedImage> {
  const directory = await mkdtemp(join(tmpdir(), 'stowage-nbd-'));
  const path = join(directory, 'socket');
  const served: Export = { image, sizeBytes: exportedBytes(image) + growBytes };
  const sockets = new Set<Socket>();
  const work = new Set<Promise<void>>();
  const server = createServer((socket) => {
    if (!server.listening) return void socket.destroy();
    sockets.add(socket);
    socket.on('error', () => undefined);
    const talk = async (): Promise<void> => {
      const reader = new Reader(socket);
      if (await negotiate(socket, reader, served)) await serve(socket, reader, served);
    };
    const done = talk()
      .catch(() => undefined)
      .finally(() => {
        socket.destroy();
        sockets.delete(socket);
        work.delete(done);
      });
    work.add(done);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  return {
    socket: path,
    get failure() {
      return served.failure;
    },
    async [Symbol.asyncDispose]() {
      // Nobody comes any more, and who is there goes.
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of sockets) socket.destroy();
      await Promise.all([closed, ...work]);
      await rm(directory, { recursive: true, force: true });
    },
  };
}
