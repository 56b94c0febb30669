import { lstat, mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { volumeFormatSchema } from '../../../shared/conf/volume.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import type { Stage, StageSpec } from '../../backends/backend.ts';
import { DIRECTORY_FORMATS, IMAGE_FORMATS, isImageFormat } from '../../formats/index.ts';
import { exists, replaceFile, syncDirectory } from '../../host/files.ts';
import { FileImage } from '../../images/file-image.ts';
import type { Image } from '../../images/image.ts';
import { type FileSystemTraits, fingerprintOf } from './describe.ts';
import type { PrivateDirectory } from './private-directory.ts';
import { placeNew, replace } from './publish.ts';

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
  }),
  text: z.string(),
  /** Once the object is finished: what tells it from any other that may have its name. */
  sealed: z.object({ note: z.string(), fingerprint: z.string() }).optional(),
});
type State = z.infer<typeof stateSchema>;

/** Where the volume will be. */
interface PoolPlace extends FileSystemTraits {
  readonly path: string;
}

/**
 * A stage in a directory of its own below the pool's private directory:
 *
 *     state.json       what it is for, and whether it is sealed
 *     journal          the record of what is in the parts
 *     object, content  what will be the volume; what it is made of, where that is another format
 *     aside            the directory that the volume took the place of, on its way out
 */
export class FileStage implements Stage {
  readonly #directory: string;
  readonly #pool: PoolPlace;
  readonly #place: PrivateDirectory;
  #state: State;
  readonly touchedAt: number;
  #images: Promise<FileImage[]> | undefined;
  #journal: Promise<FileImage> | undefined;

  private constructor(
    directory: string,
    pool: PoolPlace,
    place: PrivateDirectory,
    state: State,
    touchedAt: number,
  ) {
    this.#directory = directory;
    this.#pool = pool;
    this.#place = place;
    this.#state = state;
    this.touchedAt = touchedAt;
  }

  static async begin(
    directory: string,
    pool: PoolPlace,
    place: PrivateDirectory,
    spec: StageSpec,
    text: string,
    now: number,
  ): Promise<FileStage> {
    const state = { spec: { ...spec, parts: [...spec.parts] }, text };
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const stage = new FileStage(directory, pool, place, state, now);
    try {
      await stage.#save();
      // What cannot be laid out fails here, not at the first bytes.
      await stage.images();
    } catch (error) {
      await stage.drop();
      throw error;
    }
    return stage;
  }

  /** A stage that was begun before; undefined where none was, or no more of it than its directory. */
  static async resume(
    directory: string,
    pool: PoolPlace,
    place: PrivateDirectory,
  ): Promise<FileStage | undefined> {
    const path = join(directory, 'state.json');
    const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
    if (text === undefined) return undefined;
    const journal = await lstat(join(directory, 'journal')).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
    const { mtimeMs } = journal ?? (await lstat(path));
    return new FileStage(directory, pool, place, stateSchema.parse(JSON.parse(text)), mtimeMs);
  }

  get id(): string {
    return this.#state.spec.id;
  }

  get spec(): string {
    return this.#state.text;
  }

  get sealed(): boolean {
    return this.#state.sealed !== undefined;
  }

  get note(): string | undefined {
    return this.#state.sealed?.note;
  }

  get #object(): string {
    return join(this.#directory, 'object');
  }

  /** Where the bytes arrive: the volume itself, or a raw file that becomes one. */
  get #received(): string {
    return this.#state.spec.representation === 'content' ? join(this.#directory, 'content') : this.#object;
  }

  async #save(): Promise<void> {
    await replaceFile(join(this.#directory, 'state.json'), JSON.stringify(this.#state));
  }

  images(): Promise<readonly Image[]> {
    if (this.sealed)
      throw new StowageError('job-state', 'the transfer takes no more data: it is being put in place');
    this.#images ??= this.#openImages().catch((error) => {
      this.#images = undefined;
      throw error;
    });
    return this.#images;
  }

  async #openImages(): Promise<FileImage[]> {
    const { parts } = this.#state.spec;
    const images: FileImage[] = [];
    try {
      if (parts.some((part) => part.name !== ''))
        await mkdir(this.#received, { recursive: true, mode: 0o700 });
      for (const { name, dense, sizeBytes } of parts) {
        const image = await FileImage.open(
          name === '' ? this.#received : join(this.#received, name),
          'create',
        );
        images.push(image);
        if (!dense && image.sizeBytes !== sizeBytes) await image.setSize(sizeBytes);
      }
      return images;
    } catch (error) {
      for (const image of images) await image.close();
      throw error;
    }
  }

  journal(): Promise<Image> {
    this.#journal ??= FileImage.open(join(this.#directory, 'journal'), 'create').catch((error) => {
      this.#journal = undefined;
      throw error;
    });
    return this.#journal;
  }

  async seal(note: string, signal?: AbortSignal): Promise<void> {
    if (this.sealed) return;
    for (const image of (await this.images()) as FileImage[]) await image.flush();
    await this.#closeImages();
    await this.#build(signal);
    const object = await lstat(this.#object, { bigint: true });
    await syncDirectory(this.#directory);
    this.#state = {
      ...this.#state,
      sealed: { note, fingerprint: fingerprintOf(object, this.#state.spec.volume, this.#pool) },
    };
    await this.#save();
    // Only now may the received bytes go: a kill before this line builds again from them.
    if (this.#received !== this.#object) await rm(this.#received, { force: true });
  }

  async #build(signal: AbortSignal | undefined): Promise<void> {
    const { spec } = this.#state;
    const { volume: name, format, representation, parts, capacityBytes = 0 } = spec;
    if (representation === 'image') {
      if (!isImageFormat(format)) return DIRECTORY_FORMATS[format].adopt(this.#object);
      await using image = await FileImage.open(this.#object, 'write');
      await IMAGE_FORMATS[format].adopt(image);
      const facts = await IMAGE_FORMATS[format].facts(image);
      // An upload over a larger volume leaves it its capacity.
      if (IMAGE_FORMATS[format].plain && capacityBytes > facts.capacityBytes)
        await IMAGE_FORMATS[format].resize(image, capacityBytes, false);
      await image.flush();
      return;
    }
    await rm(this.#object, { recursive: true, force: true });
    const wanted = {
      name,
      capacityBytes: Math.max(capacityBytes, parts[0]!.sizeBytes),
      format,
      preallocate: false,
    };
    await using content = await FileImage.open(this.#received, 'read');
    if (!isImageFormat(format))
      return await DIRECTORY_FORMATS[format].fromContent(content, this.#object, wanted, signal);
    await using image = await FileImage.open(this.#object, 'create');
    await IMAGE_FORMATS[format].fromContent(content, image, wanted, signal);
  }

  async publish(identify: (fingerprint: string) => Promise<void>): Promise<void> {
    const { spec, sealed } = this.#state;
    if (!sealed) throw new StowageError('internal', 'a stage is published before it is sealed');
    const target = join(this.#pool.path, spec.volume);
    const aside = join(this.#directory, 'aside');
    if ((await exists(this.#object)) || (await exists(aside))) {
      await identify(sealed.fingerprint);
      if (spec.replace && ((await exists(target)) || (await exists(aside))))
        await replace(this.#object, target, aside, this.#place);
      else await placeNew(this.#object, target, spec.volume);
      await syncDirectory(this.#pool.path);
    }
    const there = await lstat(target, { bigint: true });
    if (fingerprintOf(there, spec.volume, this.#pool) !== sealed.fingerprint)
      throw new StowageError(
        'internal',
        `what arrived for '${spec.volume}' is neither in its transfer nor in its place`,
      );
  }

  async drop(): Promise<void> {
    await this[Symbol.asyncDispose]();
    await this.#place.remove(this.#directory).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
  }

  async #closeImages(): Promise<void> {
    const images = await this.#images?.catch(() => []);
    this.#images = undefined;
    for (const image of images ?? []) await image.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#closeImages();
    const journal = await this.#journal?.catch(() => undefined);
    this.#journal = undefined;
    await journal?.close();
  }
}
