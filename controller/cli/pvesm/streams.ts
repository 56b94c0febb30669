import { open, unlink } from 'node:fs/promises';
import { addAbortSignal, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { STREAM_FORMATS, type StreamFormat, streamFormatSchema } from '../../../shared/conf/stream.ts';
import type { FleetVolume, Upload } from '../../../shared/protocol/api.ts';
import { readingQuery } from '../../../shared/protocol/reading.ts';
import { StowageError, toStowageError } from '../../../shared/util/errors.ts';
import { call, callJson, send } from '../client.ts';
import { undoneWhenInterrupted } from '../interrupt.ts';
import { printable } from '../output.ts';
import { type VolumeReference, volumePath } from '../references.ts';

/** The size of what follows, little-endian. */
const HEADER_BYTES = 8;
/** Formats of Proxmox VE's streams that have a header, as far as they are made and read here, and how the bytes behind it are meant. */
const SIZED = {
  'raw+size': { as: 'content', format: 'raw', withSnapshots: false },
  'qcow2+size': { as: 'image', format: 'qcow2', withSnapshots: true },
  'vmdk+size': { as: 'image', format: 'vmdk', withSnapshots: true },
} as const;
/** The others that Proxmox VE has, and that are not streams of the storage itself. */
const OTHERS = ['tar+size'];

export type SizedFormat = keyof typeof SIZED;
export type PveStreamFormat = SizedFormat | StreamFormat;

export const isSized = (format: PveStreamFormat): format is SizedFormat => Object.hasOwn(SIZED, format);

/** Throws `invalid-argument` where the format does not fit what is asked for. Throws `not-supported` for a format that Proxmox VE has and that is not made here, `invalid-argument` for any other. */
export function streamFormat(text: string, withSnapshots: boolean | undefined): PveStreamFormat {
  const ofStorage = streamFormatSchema.safeParse(text);
  if (ofStorage.success) return ofStorage.data;
  if (Object.hasOwn(SIZED, text)) {
    const format = text as SizedFormat;
    if (withSnapshots === undefined || SIZED[format].withSnapshots === withSnapshots) return format;
    throw new StowageError(
      'invalid-argument',
      `${text} ${withSnapshots ? 'never carries snapshots' : 'carries snapshots: --with-snapshots 1'}`,
    );
  }
  if (OTHERS.includes(text))
    throw new StowageError(
      'not-supported',
      `streams of format ${text} are not made or read here: ${[...Object.keys(SIZED), ...STREAM_FORMATS].join(', ')}`,
    );
  throw new StowageError('invalid-argument', `there is no stream format '${text.slice(0, 40)}'`);
}

async function* framed(sizeBytes: number, body: Readable): AsyncGenerator<Buffer> {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeBigUInt64LE(BigInt(sizeBytes));
  yield header;
  let sent = 0;
  for await (const piece of body) {
    sent += (piece as Buffer).length;
    yield piece as Buffer;
  }
  if (sent !== sizeBytes)
    throw new StowageError('stream-cut', `${sent} of ${sizeBytes} bytes came from the controller`);
}

/**
 * Writes a volume as a stream of its storage to a file, or for `-` to standard output; with `older` with all snapshots up to this one; with
 * `base` only what has changed since that snapshot.
 */
export async function exportOfStorage(
  reference: VolumeReference,
  format: StreamFormat,
  path: string,
  { snapshot, older, base }: { snapshot: string | undefined; older: boolean; base: string | undefined },
): Promise<void> {
  if (snapshot === undefined)
    throw new StowageError('invalid-argument', `a stream of format ${format} needs a snapshot: --snapshot`);
  const query = new URLSearchParams({ format, snapshot, older: String(older) });
  if (base !== undefined) query.set('base', base);
  await writeTo(path, await call(`${volumePath(reference)}/stream?${query}`));
}

/** Writes a volume as a stream of Proxmox VE, behind its size, to a file, or for `-` to standard output. */
export async function exportVolume(
  reference: VolumeReference,
  format: SizedFormat,
  path: string,
  snapshot?: string,
): Promise<void> {
  const { as } = SIZED[format];
  if (as === 'image') {
    if (snapshot !== undefined)
      throw new StowageError('invalid-argument', `a snapshot is exported as raw+size, not as ${format}`);
    const { format: stored, backingStore } = await callJson<FleetVolume>(volumePath(reference));
    if (stored !== SIZED[format].format)
      throw new StowageError('invalid-argument', `cannot export a ${stored} volume as ${format}`);
    if (backingStore)
      throw new StowageError('invalid-argument', `a linked clone is exported whole: raw+size, not ${format}`);
  }
  const body = await call(`${volumePath(reference)}/data?${readingQuery({ as, snapshot })}`);
  const sizeBytes = Number(body.headers['content-length']);
  if (!Number.isSafeInteger(sizeBytes))
    throw new StowageError('stream-corrupt', 'the controller does not say how many bytes come');
  await writeTo(path, framed(sizeBytes, body));
}

async function writeTo(path: string, stream: AsyncIterable<Buffer>): Promise<void> {
  if (path === '-') return pipeline(stream, process.stdout, { end: false });
  // What is there stays, and what does not become whole goes.
  await using file = await open(path, 'wx', 0o600).catch((error: NodeJS.ErrnoException) => {
    throw error.code === 'EEXIST' ? new StowageError('file-exists', `${path} is there already`) : error;
  });
  try {
    await pipeline(stream, file.createWriteStream());
  } catch (error) {
    await unlink(path);
    throw error;
  }
}

function warn({ pool, volume }: VolumeReference, error: unknown): void {
  const { message } = toStowageError(error);
  process.stderr.write(
    `${printable(`the image ${pool}:${volume}, made for the import, stays: ${message}`)}\n`,
  );
}

/** What is read, piece by piece, so that its header can be taken first. */
class Stream {
  readonly #pieces: AsyncIterator<Buffer>;
  #left: Buffer<ArrayBufferLike> = Buffer.alloc(0);

  constructor(source: Readable) {
    this.#pieces = source[Symbol.asyncIterator]();
  }

  async header(): Promise<number> {
    while (this.#left.length < HEADER_BYTES) {
      const { value, done } = await this.#pieces.next();
      if (done) throw new StowageError('stream-cut', 'the stream ends before its size');
      this.#left = Buffer.concat([this.#left, value]);
    }
    const size = this.#left.readBigUInt64LE();
    this.#left = this.#left.subarray(HEADER_BYTES);
    if (size === 0n || size > BigInt(Number.MAX_SAFE_INTEGER))
      throw new StowageError('stream-corrupt', 'what begins with no size is no stream of this format');
    return Number(size);
  }

  /** Exactly so many bytes. Throws `stream-cut` for fewer, `stream-corrupt` for more. */
  async *body(sizeBytes: number): AsyncGenerator<Buffer> {
    let left = sizeBytes;
    for (let piece = this.#left; ; ) {
      if (piece.length > left)
        throw new StowageError(
          'stream-corrupt',
          `the stream goes on behind the ${sizeBytes} bytes that it says`,
        );
      left -= piece.length;
      // The last piece makes the volume: it is given out when nothing comes behind it.
      const { value, done } = await this.#pieces.next();
      if (done && left > 0)
        throw new StowageError('stream-cut', `the stream ends ${left} bytes before its end of ${sizeBytes}`);
      if (left === 0 && value && value.length > 0)
        throw new StowageError(
          'stream-corrupt',
          `the stream goes on behind the ${sizeBytes} bytes that it says`,
        );
      if (piece.length > 0) yield piece;
      if (done) return;
      piece = value;
    }
  }
}

/** Makes a volume of a stream that storage of its kind has written, or with `base` brings one up to date, from a file or for `-` from standard input. */
export async function importToStorage(
  reference: VolumeReference,
  format: StreamFormat,
  path: string,
  {
    snapshot,
    deleteSnapshot,
    base,
    allowRename,
  }: { snapshot?: string; deleteSnapshot?: string; base?: string; allowRename: boolean },
): Promise<FleetVolume> {
  const query = new URLSearchParams({ format, allowRename: String(allowRename) });
  if (snapshot !== undefined) query.set('snapshot', snapshot);
  if (deleteSnapshot !== undefined) query.set('deleteSnapshot', deleteSnapshot);
  if (base !== undefined) query.set('base', base);
  return callJson<FleetVolume>(`${volumePath(reference)}/stream?${query}`, {
    method: 'PUT',
    upload: { type: 'application/octet-stream', body: await readFrom(path) },
  });
}

/** Throws where the file cannot be read, before anything is asked of the controller. */
async function readFrom(path: string): Promise<Readable> {
  return path === '-' ? process.stdin : (await open(path)).createReadStream();
}

/**
 * Makes a volume of a container format of a stream of Proxmox VE, from a file or for `-` from standard input. `instead` may give an image, made for so many bytes,
 * that the content goes into. What does not come whole leaves nothing.
 */
export async function importVolume(
  reference: VolumeReference,
  format: SizedFormat,
  container: string,
  path: string,
  instead: (sizeBytes: number) => Promise<VolumeReference | undefined>,
): Promise<FleetVolume> {
  const { as, format: carried } = SIZED[format];
  if (as === 'image' && container !== carried)
    throw new StowageError('invalid-argument', `a stream of ${format} makes no ${container} volume`);
  const source = await readFrom(path);
  return undoneWhenInterrupted(async (signal) => {
    const stream = new Stream(addAbortSignal(signal, source));
    const sizeBytes = await stream.header();
    return importSized(reference, { as, container, sizeBytes }, stream, await instead(sizeBytes));
  });
}

interface Sized {
  as: 'content' | 'image';
  container: string;
  sizeBytes: number;
}

/** Into the image that was made for it, or into a new volume of the name. */
async function importSized(
  reference: VolumeReference,
  { as, container, sizeBytes }: Sized,
  stream: Stream,
  made: VolumeReference | undefined,
): Promise<FleetVolume> {
  const target = volumePath(made ?? reference);
  const onlyNew = made === undefined;
  let isBegun = false;
  try {
    // It is begun before the first byte, so that it can be cancelled when the stream ends too soon.
    const json = { format: container, as, sourceFormat: 'raw', sizeBytes, onlyNew };
    await callJson<Upload>(`${target}/upload`, { method: 'POST', json });
    isBegun = true;
    const query = `format=${container}&as=${as}&sourceFormat=raw&onlyNew=${onlyNew}`;
    return await callJson<FleetVolume>(`${target}/data?${query}`, {
      upload: { type: 'application/octet-stream', body: stream.body(sizeBytes), sizeBytes },
    });
  } catch (error) {
    // That of somebody else goes on.
    if (isBegun) await send(`${target}/upload`, { method: 'DELETE' }).catch(() => undefined);
    if (made) await send(target, { method: 'DELETE' }).catch((left) => warn(made, left));
    throw error;
  }
}
