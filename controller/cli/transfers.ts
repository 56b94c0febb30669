import { lstat } from 'node:fs/promises';
import { finished } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Representation, Volume } from '../../shared/conf/volume.ts';
import { mislabelled, type SourceFormat, wrapped } from '../../shared/formats/detect.ts';
import type { Layout } from '../../shared/protocol/agent.ts';
import type { Upload } from '../../shared/protocol/api.ts';
import { type Reading, readingQuery } from '../../shared/protocol/reading.ts';
import { CHUNK_BYTES, ChunkDigests, ChunkMap } from '../../shared/transfer/chunks.ts';
import { EXTENTS_TYPE } from '../../shared/transfer/frames.ts';
import { decodeExtents } from '../../shared/transfer/receive.ts';
import { encodeExtents, readChunk } from '../../shared/transfer/send.ts';
import type { OpenedSource, Source } from '../../shared/transfer/source.ts';
import { isStowageError, StowageError } from '../../shared/util/errors.ts';
import { bytesOf, call, callJson, send } from './client.ts';
import { type Confirmation, confirm } from './confirm.ts';
import { downloadDirect, uploadDirect } from './direct.ts';
import { DownloadSink } from './download-sink.ts';
import { Progress, printable } from './output.ts';
import { taken } from './partial-file.ts';
import { type VolumeReference, volumePath } from './references.ts';
import { UploadFile } from './upload-file.ts';

/** A cut line is tried again for so long after the last byte that moved. */
const PATIENCE_MS = 5 * 60_000;

function isCut(error: unknown): boolean {
  if (isStowageError(error)) return error.code === 'host-unreachable' || error.code === 'stream-cut';
  // What a body throws when its connection ends in the middle.
  return ['ECONNRESET', 'EPIPE', 'ETIMEDOUT'].includes((error as NodeJS.ErrnoException).code ?? '');
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** Runs `attempt` again after a cut line, as long as something still moves now and then. */
async function persist<T>(attempt: (moved: () => void) => Promise<T>): Promise<T> {
  let last = Date.now();
  let told = false;
  for (let pauseMs = 500; ; pauseMs = Math.min(pauseMs * 2, 10_000)) {
    try {
      return await attempt(() => {
        last = Date.now();
        pauseMs = 500;
        told = false;
      });
    } catch (error) {
      if (!isCut(error) || Date.now() - last > PATIENCE_MS) throw error;
      if (!told) process.stderr.write(`\nstowage: ${printable(messageOf(error))}; trying again\n`);
      told = true;
      await sleep(pauseMs);
    }
  }
}

/** Uploads a file, or what is in the image that it is: zeros are not sent, what is there from an interrupted upload is not sent again, all is digested. */
export async function uploadVolume(
  path: string,
  reference: VolumeReference,
  {
    yes,
    throughController,
    sourceFormat,
    ...options
  }: {
    format?: string;
    secret?: string;
    as: Representation;
    sourceFormat?: SourceFormat;
    allowUsed?: boolean;
    throughController?: boolean;
  } & Confirmation,
): Promise<{ volume: Volume; replaced: boolean }> {
  if (sourceFormat !== undefined && options.as === 'image')
    throw new StowageError('invalid-argument', '--source-format cannot be used with --as image');
  await using file = await UploadFile.open(path, sourceFormat ?? 'raw');
  const { source } = file;
  const target = volumePath(reference);
  if (sourceFormat === undefined && !(options.as === 'image' && options.format !== undefined))
    await refuseContainer(await file.container(), target, options.as);
  let asked = false;
  let isDirect = !throughController;
  const progress = new Progress(
    `upload ${reference.volume}`,
    'the same command goes on from here; to give it up: stowage job list, stowage job cancel',
  );
  try {
    return await persist(async (moved) => {
      const upload = await callJson<Upload>(`${target}/upload`, {
        method: 'POST',
        json: { ...options, sourceFormat: sourceFormat && 'raw', sizeBytes: source.sizeBytes },
      });
      if (upload.spec.replace && !asked) {
        const place = `${reference.host}/${reference.pool}/${reference.volume}`;
        const unasked = new StowageError('volume-exists', `${place} is there already; --yes replaces it`);
        await confirm(`Replace what is in ${place}?`, { yes }, unasked).catch(async (error) => {
          await send(`${target}/upload`, { method: 'DELETE' });
          throw error;
        });
        asked = true;
      }
      const onProgress = (doneBytes: number): void => {
        progress.update(doneBytes, source.sizeBytes);
        moved();
      };
      const opened: OpenedSource = {
        layout: { parts: upload.spec.parts, etag: '' },
        sources: [source],
        checkUnchanged: () => file.checkUnchanged(),
      };
      let digest = isDirect ? await uploadDirect(target, opened, upload.spec.digest, onProgress) : undefined;
      isDirect = digest !== undefined;
      digest ??= await uploadThroughController(target, source, upload, onProgress);
      await file.checkUnchanged();
      const volume = await callJson<Volume>(`${target}/upload/commit`, { method: 'POST', json: { digest } });
      return { volume, replaced: upload.spec.replace };
    });
  } catch (error) {
    // With this file it never becomes a volume.
    if (isStowageError(error, 'invalid-image'))
      await send(`${target}/upload`, { method: 'DELETE' }).catch(() => undefined);
    throw error;
  } finally {
    progress.stop();
  }
}

/** Of a file whose format nobody has said. Throws `invalid-image` where its container would be taken for what is in it. */
async function refuseContainer(
  container: string | undefined,
  target: string,
  as: Representation,
): Promise<void> {
  if (container === undefined) return;
  if (as === 'content') throw new StowageError('invalid-image', wrapped(container));
  const existing = await callJson<Volume>(target).catch((error) => {
    if (!isStowageError(error, 'volume-not-found')) throw error;
    return undefined;
  });
  const format = existing?.format ?? 'raw';
  if (container !== format) throw new StowageError('invalid-image', mislabelled(container, format));
}

/** Sends what the host lacks through the controller, and gives the root digest over all. */
async function uploadThroughController(
  target: string,
  source: Source,
  { spec }: Upload,
  onProgress: (doneBytes: number) => void,
): Promise<string> {
  const map = new ChunkMap(spec.parts, spec.digest);
  const digests = await bytesOf(await call(`${target}/upload/digests`));
  const there = ChunkDigests.parse(map, digests);
  const ours = new ChunkDigests(map);
  // What is there already is read and compared, not trusted: the file may be another by now.
  const skip = await sameChunks(source, map, there, ours);
  const body = encodeExtents([source], map, {
    skip: (index) => skip.has(index),
    onChunk: (index, digest) => {
      ours.set(index, digest);
      onProgress(Math.min(ours.doneCount * CHUNK_BYTES, source.sizeBytes));
    },
  });
  const answer = await call(`${target}/upload/extents`, { upload: { type: EXTENTS_TYPE, body } });
  answer.resume();
  return ours.root();
}

async function sameChunks(
  source: Source,
  map: ChunkMap,
  there: ChunkDigests,
  ours: ChunkDigests,
): Promise<Set<number>> {
  const same = new Set<number>();
  if (there.doneCount === 0) return same;
  const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  for (let index = 0; index < map.count; index++) {
    const known = there.get(index);
    if (!known) continue;
    const digest = await (await readChunk([source], map, index, buffer)).digest;
    if (!digest.equals(known)) continue;
    same.add(index);
    ours.set(index, digest);
  }
  return same;
}

/**
 * Downloads into `FILE.part`, sparse and checked, and gives it its name when it is whole; what an interrupted download of
 * the same state left there is not fetched again. `-` streams plain bytes. A file that is there is overwritten only by `force`.
 */
export async function downloadVolume(
  reference: VolumeReference,
  path: string,
  { as, snapshot, force, throughController }: Reading & { force?: boolean; throughController?: boolean },
): Promise<{ sizeBytes: number }> {
  const target = volumePath(reference);
  const reading = readingQuery({ as, snapshot });
  if (path === '-') {
    let sizeBytes = 0;
    for await (const piece of await call(`${target}/data?${reading}`)) {
      sizeBytes += (piece as Buffer).length;
      if (!process.stdout.write(piece)) await new Promise((resolve) => process.stdout.once('drain', resolve));
    }
    process.stdout.end();
    await finished(process.stdout, { readable: false }).catch(() => undefined);
    return { sizeBytes };
  }
  const there = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw new StowageError('invalid-argument', `${path}: ${error.message}`);
    return undefined;
  });
  if (there && !there.isFile())
    throw new StowageError('invalid-argument', `${path} is no regular file; - writes to standard output`);
  if (there && !force) throw taken(path);
  let isDirect = !throughController;
  return persist(async (moved) => {
    const progress = new Progress('download', 'the same command goes on from here');
    const onProgress = (doneBytes: number, totalBytes: number): void => {
      progress.update(doneBytes, totalBytes);
      moved();
    };
    const open = (layout: Layout): Promise<DownloadSink> => {
      if (layout.isOverlay && as === 'image')
        process.stderr.write(
          'warning: the volume stands on another one, and this is only what differs; --as content gives all of it\n',
        );
      return DownloadSink.open(path, as, layout);
    };
    let sink: DownloadSink | undefined;
    try {
      if (isDirect) {
        const intoSink = async (layout: Layout): Promise<DownloadSink> => {
          sink = await open(layout);
          return sink;
        };
        isDirect = await downloadDirect(target, reading, intoSink, onProgress);
      }
      if (!isDirect) {
        sink ??= await open(await callJson<Layout>(`${target}/layout?${reading}`));
        await downloadThroughController(target, reading, sink, onProgress);
      }
      await sink!.finish(force);
      return { sizeBytes: sink!.sizeBytes };
    } finally {
      progress.stop();
      await sink?.[Symbol.asyncDispose]();
    }
  });
}

/** Fetches the chunks that the sink lacks, in their order. */
async function downloadThroughController(
  target: string,
  reading: string,
  sink: DownloadSink,
  onProgress: (doneBytes: number, totalBytes: number) => void,
): Promise<void> {
  const { map } = sink.digests;
  const query = `${reading}&etag=${encodeURIComponent(sink.etag)}&from=${sink.chunks}`;
  await decodeExtents(await call(`${target}/extents?${query}`), map, async (chunk) => {
    await sink.write(chunk);
    onProgress(Math.min((chunk.index + 1) * CHUNK_BYTES, map.totalBytes), map.totalBytes);
  });
}
