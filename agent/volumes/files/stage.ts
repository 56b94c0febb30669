import { lstat, mkdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { StowageError } from '../../../shared/util/errors.ts';
import type { Stage, StageSpec } from '../../backends/backend.ts';
import { DIRECTORY_FORMATS, IMAGE_FORMATS, isImageFormat } from '../../formats/index.ts';
import { exists, syncDirectory } from '../../host/files.ts';
import { FileImage } from '../../images/file-image.ts';
import type { Image } from '../../images/image.ts';
import { RecordedStage } from '../recorded-stage.ts';
import { refusePlain } from '../refuse-plain.ts';
import { StageRecord } from '../stage-record.ts';
import { type FileSystemTraits, fingerprintOf } from './describe.ts';
import { makeParent, placeNew } from './new-names.ts';
import type { PrivateDirectory } from './private-directory.ts';
import { replace } from './replace.ts';
import { wipeInPlace } from './wiping.ts';

/** Where the volume will be, and where it is until then. */
export interface StagePlace extends FileSystemTraits {
  /** The pool's directory. */
  readonly path: string;
  readonly private: PrivateDirectory;
  /** Where the volume of a name lies. Throws `invalid-name`. */
  at(name: string): string;
  /** Runs what gives a volume its name. */
  naming<T>(work: () => Promise<T>): Promise<T>;
  /** Throws when what has a name must not be lost; without `replace`, whatever it is. */
  refuseLoss(name: string, replace: boolean): Promise<void>;
}

/**
 * A stage in a directory of its own below the pool's private directory:
 *
 *     state.json, journal  its record
 *     object, content  what will be the volume; what it is made of, where that is another format
 *     aside            the directory that the volume took the place of, on its way out
 */
export class FileStage extends RecordedStage implements Stage {
  readonly #pool: StagePlace;
  #images: Promise<FileImage[]> | undefined;

  private constructor(record: StageRecord, pool: StagePlace) {
    super(record);
    this.#pool = pool;
  }

  static async begin(
    directory: string,
    pool: StagePlace,
    spec: StageSpec,
    text: string,
    now: number,
  ): Promise<FileStage> {
    let stage: FileStage | undefined;
    try {
      stage = new FileStage(await StageRecord.begin(directory, spec, text, now), pool);
      // What cannot be laid out fails here, not at the first bytes.
      await stage.images();
      return stage;
    } catch (error) {
      await stage?.drop();
      throw error;
    }
  }

  /** A stage that was begun before; undefined where none was, or no more of it than its directory. */
  static async resume(directory: string, pool: StagePlace): Promise<FileStage | undefined> {
    const record = await StageRecord.resume(directory);
    return record && new FileStage(record, pool);
  }

  get #directory(): string {
    return this.record.directory;
  }

  get #object(): string {
    return join(this.#directory, 'object');
  }

  /** Where the bytes arrive: the volume itself, or a raw file that becomes one. */
  get #received(): string {
    return this.record.spec.representation === 'content' ? join(this.#directory, 'content') : this.#object;
  }

  images(): Promise<readonly Image[]> {
    this.record.requireOpen();
    this.#images ??= this.#openImages().catch((error) => {
      this.#images = undefined;
      throw error;
    });
    return this.#images;
  }

  async #openImages(): Promise<FileImage[]> {
    const { parts } = this.record.spec;
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

  async seal(note: string, passphrase: string | undefined, signal?: AbortSignal): Promise<void> {
    if (this.sealed) return;
    for (const image of (await this.images()) as FileImage[]) await image.flush();
    await this.#closeImages();
    await this.#build(passphrase, signal);
    const object = await lstat(this.#object, { bigint: true });
    await syncDirectory(this.#directory);
    await this.record.seal(note, fingerprintOf(object, this.record.spec.volume, this.#pool));
    // Only now may the received bytes go: a kill before this line builds again from them.
    if (this.#received === this.#object) return;
    // What arrived as it is, and is encrypted now, is written over.
    if (this.record.spec.encryption && (await exists(this.#received)))
      await wipeInPlace(this.#received, 'zero', signal);
    await rm(this.#received, { force: true });
  }

  async #build(passphrase: string | undefined, signal: AbortSignal | undefined): Promise<void> {
    const { spec } = this.record;
    const { volume: name, format, representation, parts, capacityBytes = 0, encryption } = spec;
    if (representation === 'image') {
      if (!isImageFormat(format)) return DIRECTORY_FORMATS[format].adopt(this.#object);
      await using image = await FileImage.open(this.#object, 'write');
      await IMAGE_FORMATS[format].adopt(image);
      const facts = await IMAGE_FORMATS[format].facts(image);
      refusePlain(spec, facts);
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
      encryption,
      passphrase,
      preallocate: false,
    };
    await using content = await FileImage.open(this.#received, 'read');
    if (!isImageFormat(format))
      return await DIRECTORY_FORMATS[format].fromContent(content, this.#object, wanted, signal);
    await using image = await FileImage.open(this.#object, 'create');
    await IMAGE_FORMATS[format].fromContent(content, image, wanted, signal);
  }

  async publish(identify: (fingerprint: string) => Promise<void>): Promise<void> {
    const { spec, sealed } = this.record;
    if (!sealed) throw new StowageError('internal', 'a stage is published before it is sealed');
    const target = this.#pool.at(spec.volume);
    const aside = join(this.#directory, 'aside');
    if ((await exists(this.#object)) || (await exists(aside))) {
      // Not of what a kill left between two steps.
      if (!(await exists(aside)) && (await this.#fingerprintAt(target)) !== sealed.fingerprint)
        await this.#pool.refuseLoss(spec.volume, spec.replace);
      await makeParent(target, this.#pool.path);
      const replaced = await this.#fingerprintAt(target);
      await this.#pool.naming(async () => {
        // While this waited for its turn, or was frozen, another volume may have got the name.
        if ((await this.#fingerprintAt(target)) !== replaced)
          throw new StowageError(
            'volume-changed',
            `another volume is called '${spec.volume}' by now; it stays as it is`,
          );
        await identify(sealed.fingerprint);
        if (spec.replace && ((await exists(target)) || (await exists(aside))))
          await replace(this.#object, target, aside, this.#pool.private);
        else await placeNew(this.#object, target, spec.volume);
        await syncDirectory(dirname(target));
      });
    }
    if ((await this.#fingerprintAt(target)) !== sealed.fingerprint)
      throw new StowageError(
        'internal',
        `what arrived for '${spec.volume}' is neither in its transfer nor in its place`,
      );
  }

  async #fingerprintAt(path: string): Promise<string | undefined> {
    const stat = await lstat(path, { bigint: true }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
      return undefined;
    });
    return stat && fingerprintOf(stat, this.record.spec.volume, this.#pool);
  }

  async drop(): Promise<void> {
    await this[Symbol.asyncDispose]();
    const aside = join(this.#directory, 'aside');
    const target = this.#pool.at(this.record.spec.volume);
    // What had stepped aside for what never came is the volume still.
    if ((await exists(aside)) && !(await exists(target))) {
      await rename(aside, target);
      await syncDirectory(dirname(target));
    }
    await this.#pool.private.remove(this.#directory).catch((error: NodeJS.ErrnoException) => {
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
    await this.record[Symbol.asyncDispose]();
  }
}
