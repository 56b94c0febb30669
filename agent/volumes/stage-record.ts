import { lstat, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { encryptionSchema, volumeFormatSchema } from '../../shared/conf/volume.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { StageSpec } from '../backends/backend.ts';
import { readIfExists, replaceFile } from '../host/files.ts';
import { FileImage } from '../images/file-image.ts';

const partSchema = z.object({ name: z.string(), sizeBytes: z.number(), dense: z.boolean() });
const stateSchema = z.object({
  spec: z.object({
    id: z.string(),
    volume: z.string(),
    format: volumeFormatSchema,
    representation: z.enum(['image', 'content']),
    parts: z.array(partSchema),
    capacityBytes: z.number().optional(),
    replace: z.boolean(),
    encryption: encryptionSchema.optional(),
  }),
  text: z.string(),
  /** The device that was made for it, by what tells it from every other. */
  device: z.string().optional(),
  /** Once the object is finished: what tells it from any other that may have its name. */
  sealed: z.object({ note: z.string(), fingerprint: z.string() }).optional(),
});
type State = z.infer<typeof stateSchema>;

/**
 * What is on record of a stage, in a directory of its own: `state.json`, what it is for and how far it is, and `journal`, the
 * record of the bytes in it. Every change is durable when its method returns.
 */
export class StageRecord implements AsyncDisposable {
  readonly directory: string;
  /** Last change known from before, ms since the epoch. */
  readonly touchedAt: number;
  #state: State;
  #journal: Promise<FileImage> | undefined;

  private constructor(directory: string, state: State, touchedAt: number) {
    this.directory = directory;
    this.#state = state;
    this.touchedAt = touchedAt;
  }

  static async begin(directory: string, spec: StageSpec, text: string, now: number): Promise<StageRecord> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const record = new StageRecord(directory, { spec: { ...spec, parts: [...spec.parts] }, text }, now);
    try {
      await record.#save({});
    } catch (error) {
      await rm(directory, { recursive: true, force: true });
      throw error;
    }
    return record;
  }

  /** Of a stage that was begun before; undefined where none was, or no more of it than its directory. */
  static async resume(directory: string): Promise<StageRecord | undefined> {
    const path = join(directory, 'state.json');
    const text = await readIfExists(path);
    if (text === undefined) return undefined;
    const journal = await lstat(join(directory, 'journal')).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
    const { mtimeMs } = journal ?? (await lstat(path));
    return new StageRecord(directory, stateSchema.parse(JSON.parse(text)), mtimeMs);
  }

  get spec(): State['spec'] {
    return this.#state.spec;
  }

  /** What it was begun with, as its owner gave it. */
  get text(): string {
    return this.#state.text;
  }

  get device(): string | undefined {
    return this.#state.device;
  }

  get sealed(): State['sealed'] {
    return this.#state.sealed;
  }

  async #save(change: Partial<State>): Promise<void> {
    const state = { ...this.#state, ...change };
    await replaceFile(join(this.directory, 'state.json'), JSON.stringify(state));
    this.#state = state;
  }

  setDevice(device: string): Promise<void> {
    return this.#save({ device });
  }

  seal(note: string, fingerprint: string): Promise<void> {
    return this.#save({ sealed: { note, fingerprint } });
  }

  /** Throws `job-state` once it is sealed. */
  requireOpen(): void {
    if (this.sealed)
      throw new StowageError('job-state', 'the transfer takes no more data: it is being put in place');
  }

  journal(): Promise<FileImage> {
    this.#journal ??= FileImage.open(join(this.directory, 'journal'), 'create').catch((error) => {
      this.#journal = undefined;
      throw error;
    });
    return this.#journal;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const journal = await this.#journal?.catch(() => undefined);
    this.#journal = undefined;
    await journal?.close();
  }
}
