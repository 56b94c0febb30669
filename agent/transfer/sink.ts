import type { Volume } from '../../shared/conf/volume.ts';
import { containerOf, mislabelled, wrapped } from '../../shared/formats/detect.ts';
import type { TransferSpec } from '../../shared/protocol/agent.ts';
import { ChunkDigests, ChunkMap } from '../../shared/transfer/chunks.ts';
import type { ReceivedChunk } from '../../shared/transfer/receive.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { DIRECTORY_FORMATS, IMAGE_FORMATS, isImageFormat } from '../formats/index.ts';
import type { OpenedStage } from '../pools/operations.ts';
import { StagedImages } from './staged-images.ts';

/**
 * Where a transfer is written: a stage, with the record of the chunks that are in it. What was received before is there
 * again after a restart.
 */
export class Sink {
  readonly #stage: OpenedStage;
  #images: StagedImages | undefined;
  #committing: Promise<{ volume: Volume; digest: string }> | undefined;

  private constructor(stage: OpenedStage, images: StagedImages | undefined) {
    this.#stage = stage;
    this.#images = images;
  }

  static async open(stage: OpenedStage): Promise<Sink> {
    if (stage.sealed) return new Sink(stage, undefined);
    const map = new ChunkMap(stage.spec.parts, stage.spec.digest);
    return new Sink(stage, await StagedImages.open(await stage.images(), await stage.journal(), map));
  }

  get spec(): TransferSpec {
    return this.#stage.spec;
  }

  get digests(): ChunkDigests {
    return this.#images?.digests ?? new ChunkDigests(new ChunkMap(this.spec.parts, this.spec.digest));
  }

  /** What the image that arrived says of its capacity; undefined for content, and before all of it is there. */
  async capacityBytes(): Promise<number | undefined> {
    const { representation, format } = this.spec;
    if (!this.#images?.digests.complete || representation !== 'image' || !isImageFormat(format))
      return undefined;
    return (await IMAGE_FORMATS[format].facts(this.#images.first)).capacityBytes;
  }

  /** Last change, ms since the epoch. */
  get touchedAt(): number {
    return this.#images?.touchedAt ?? this.#stage.touchedAt;
  }

  /** Writes one checked chunk. Holds the writer back while more than a few MiB are not durable yet. */
  async write(chunk: ReceivedChunk): Promise<void> {
    if (!this.#images || this.#committing)
      throw new StowageError('job-state', 'the transfer takes no more data: it is being committed');
    const { part, offset } = this.#images.map.chunk(chunk.index);
    if (offset === 0) inspect(this.spec, chunk, part);
    await this.#images.write(chunk);
  }

  /** Settles when everything written is durable and on record. Throws when something could not be. */
  async flush(): Promise<void> {
    await this.#images?.flush();
  }

  /**
   * Makes the complete transfer a volume: checks the digest, lets the format check the image, publishes it under its name
   * in one step. `passphrase` is what content is encrypted with. Repeatable after a kill. Throws `digest-mismatch`, `invalid-image`, `volume-exists`.
   */
  commit(
    digest: string | undefined,
    passphrase?: string,
    signal?: AbortSignal,
  ): Promise<{ volume: Volume; digest: string }> {
    this.#committing ??= this.#commit(digest, passphrase, signal).finally(() => {
      this.#committing = undefined;
    });
    return this.#committing;
  }

  async #commit(
    digest: string | undefined,
    passphrase: string | undefined,
    signal: AbortSignal | undefined,
  ): Promise<{ volume: Volume; digest: string }> {
    if (!this.#stage.sealed) {
      const root = await this.#complete(digest);
      await this.#stage.seal(root, passphrase, signal);
      await this.#images?.[Symbol.asyncDispose]();
      this.#images = undefined;
    }
    const root = this.#stage.note ?? '';
    return { volume: await this.#stage.publish(), digest: root };
  }

  /** The digest of the whole, once every chunk is there and durable. */
  async #complete(digest: string | undefined): Promise<string> {
    const images = this.#images;
    if (!images) throw new StowageError('internal', 'the transfer was not opened');
    await images.flush();
    const missing = images.map.count - images.digests.doneCount;
    if (missing > 0)
      throw new StowageError('upload-offset', `${missing} of ${images.map.count} chunks have not arrived`);
    const root = images.digests.root();
    if (digest !== undefined && digest !== root)
      throw new StowageError(
        'digest-mismatch',
        `the digest of what arrived, ${root}, is not that of the source, ${digest}`,
      );
    return root;
  }

  /** Removes every trace, also of what is complete and could not get its name. */
  async abort(): Promise<void> {
    if (this.#committing)
      throw new StowageError('job-state', 'the transfer is being put in place and cannot be taken back');
    await this.#images?.[Symbol.asyncDispose]();
    this.#images = undefined;
    await this.#stage.drop();
  }

  /** What was received stays. */
  async close(): Promise<void> {
    await this.#images?.[Symbol.asyncDispose]();
    await this.#stage[Symbol.asyncDispose]();
  }
}

/** Refuses a stored image by its first bytes, as soon as they are there. */
function inspect(spec: TransferSpec, chunk: ReceivedChunk, part: number): void {
  const { representation, format, parts, formatAssumed } = spec;
  const head = chunk.data ? chunk.data.bytes.subarray(0, 64 << 10) : Buffer.alloc(4096);
  const container = formatAssumed ? containerOf(head) : undefined;
  if (representation !== 'image') {
    if (container !== undefined) throw new StowageError('invalid-image', wrapped(container));
    return;
  }
  if (container !== undefined && container !== format)
    throw new StowageError('invalid-image', mislabelled(container, format));
  const driver = isImageFormat(format) ? IMAGE_FORMATS[format] : DIRECTORY_FORMATS[format];
  driver.inspect(head, parts[part]!, parts);
}
