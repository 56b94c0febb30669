import { lstat, mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { Volume } from '../../../shared/conf/volume.ts';
import { type TransferSpec, transferSpecSchema } from '../../../shared/protocol/agent.ts';
import { ChunkDigests, ChunkMap } from '../../../shared/transfer/chunks.ts';
import type { ReceivedChunk } from '../../../shared/transfer/receive.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { FORMATS } from '../../formats/index.ts';
import { exists, replaceFile, syncDirectory } from '../../host/files.ts';
import { StagedFiles } from '../../transfer/staged-files.ts';
import type { Sink } from '../backend.ts';
import { inodeOf } from './identities.ts';

/**
 * `receiving`: chunks come in. `publishing`: the volume is built and checked and on its way to its name; from here on
 * only forward, by whoever finds it.
 */
const stateSchema = z.object({
  spec: transferSpecSchema,
  phase: z.enum(['receiving', 'publishing']),
  /** What tells the finished object from any other that may have its name. */
  inode: z.string().optional(),
  digest: z.string().optional(),
});
type State = z.infer<typeof stateSchema>;

/** What a sink asks of its pool. */
export interface SinkHooks {
  /** Gives a finished object its name in the pool: atomic, and again the same when it has been done before. */
  publish(object: string, spec: TransferSpec, inode: string): Promise<Volume>;
  /** The sink was committed or aborted and holds nothing any more. */
  ended(id: string): void;
}

/** A transfer in a directory of its own below the pool's private directory. */
export class DirSink implements Sink {
  readonly spec: TransferSpec;
  readonly #directory: string;
  readonly #hooks: SinkHooks;
  #state: State;
  #files: StagedFiles | undefined;
  #committing: Promise<{ volume: Volume; digest: string }> | undefined;

  private constructor(directory: string, state: State, hooks: SinkHooks) {
    this.#directory = directory;
    this.#state = state;
    this.spec = state.spec;
    this.#hooks = hooks;
  }

  static async begin(directory: string, spec: TransferSpec, hooks: SinkHooks): Promise<DirSink> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const sink = new DirSink(directory, { spec, phase: 'receiving' }, hooks);
    try {
      await sink.#save();
      await sink.#open();
    } catch (error) {
      await rm(directory, { recursive: true, force: true });
      throw error;
    }
    return sink;
  }

  /** Takes up a transfer that was begun before; undefined when the directory does not hold one. */
  static async resume(directory: string, hooks: SinkHooks): Promise<DirSink | undefined> {
    const text = await readFile(join(directory, 'state.json'), 'utf8').catch(() => undefined);
    if (text === undefined) return undefined;
    const sink = new DirSink(directory, stateSchema.parse(JSON.parse(text)), hooks);
    if (sink.#state.phase === 'receiving') await sink.#open();
    return sink;
  }

  get publishing(): boolean {
    return this.#state.phase === 'publishing';
  }

  get touchedAt(): number {
    return this.#files?.touchedAt ?? Date.now();
  }

  get digests(): ChunkDigests {
    return this.#files?.digests ?? new ChunkDigests(new ChunkMap(this.spec.parts, this.spec.digest));
  }

  /** Where the bytes arrive: the volume itself, or a raw file that becomes one. */
  get #received(): string {
    return join(this.#directory, this.spec.representation === 'content' ? 'content' : 'object');
  }

  async #open(): Promise<void> {
    this.#files = await StagedFiles.open(
      this.#received,
      join(this.#directory, 'journal'),
      new ChunkMap(this.spec.parts, this.spec.digest),
    );
  }

  async #save(): Promise<void> {
    await replaceFile(join(this.#directory, 'state.json'), JSON.stringify(this.#state));
  }

  async write(chunk: ReceivedChunk): Promise<void> {
    if (!this.#files || this.#committing)
      throw new StowageError('job-state', 'the transfer takes no more data: it is being committed');
    const { part, offset } = this.#files.map.chunk(chunk.index);
    if (offset === 0 && this.spec.representation === 'image') {
      const head = chunk.data ? chunk.data.bytes.subarray(0, 64 << 10) : Buffer.alloc(4096);
      FORMATS[this.spec.format].inspect(head, this.spec.parts[part]!, this.spec.parts);
    }
    await this.#files.write(chunk);
  }

  async flush(): Promise<void> {
    await this.#files?.flush();
  }

  commit(digest: string | undefined, signal?: AbortSignal): Promise<{ volume: Volume; digest: string }> {
    this.#committing ??= this.#commit(digest, signal).finally(() => {
      this.#committing = undefined;
    });
    return this.#committing;
  }

  async #commit(
    digest: string | undefined,
    signal?: AbortSignal,
  ): Promise<{ volume: Volume; digest: string }> {
    if (this.#state.phase === 'receiving') await this.#build(digest, signal);
    const volume = await this.#hooks.publish(
      join(this.#directory, 'object'),
      this.spec,
      this.#state.inode ?? '',
    );
    const root = this.#state.digest ?? '';
    await rm(this.#directory, { recursive: true, force: true });
    this.#hooks.ended(this.spec.id);
    return { volume, digest: root };
  }

  async #build(digest: string | undefined, signal?: AbortSignal): Promise<void> {
    const files = this.#files;
    if (!files) throw new StowageError('internal', 'the transfer was not opened');
    await files.flush();
    const missing = files.map.count - files.digests.doneCount;
    if (missing > 0)
      throw new StowageError('upload-offset', `${missing} of ${files.map.count} chunks have not arrived`);
    const root = files.digests.root();
    if (digest !== undefined && digest !== root) {
      throw new StowageError(
        'digest-mismatch',
        `the digest of what arrived, ${root}, is not that of the source, ${digest}`,
      );
    }
    await files.finish();
    const { spec } = this;
    const format = FORMATS[spec.format];
    const object = join(this.#directory, 'object');
    if (spec.representation === 'content') {
      await rm(object, { recursive: true, force: true });
      const capacityBytes = Math.max(spec.capacityBytes ?? 0, spec.parts[0]!.sizeBytes);
      await format.fromContent(
        this.#received,
        object,
        { name: spec.volume, capacityBytes, format: spec.format, preallocate: false },
        signal,
      );
    } else {
      await format.adopt(object);
      const { capacityBytes } = await format.facts(object);
      if (spec.format === 'raw' && spec.capacityBytes && spec.capacityBytes > capacityBytes)
        await format.resize(object, spec.capacityBytes, false);
    }
    if (!(await exists(object))) throw new StowageError('internal', 'nothing was built');
    await syncDirectory(this.#directory);
    await this.#close();
    const inode = inodeOf(await lstat(object, { bigint: true }));
    this.#state = { ...this.#state, phase: 'publishing', digest: root, inode };
    await this.#save();
    // Only now may the received bytes go: a kill before this line builds again from them.
    if (spec.representation === 'content') await rm(this.#received, { force: true });
  }

  async #close(): Promise<void> {
    await this.#files?.[Symbol.asyncDispose]();
    this.#files = undefined;
  }

  async abort(): Promise<void> {
    if (this.#committing || this.publishing) {
      throw new StowageError('job-state', 'the transfer is being put in place and cannot be taken back');
    }
    await this.#close();
    await rm(this.#directory, { recursive: true, force: true });
    this.#hooks.ended(this.spec.id);
  }
}
