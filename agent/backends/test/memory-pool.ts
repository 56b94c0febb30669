import type { PoolDefinition } from '../../../shared/conf/pool.ts';
import type { NewVolume, Representation } from '../../../shared/conf/volume.ts';
import type { WipeAlgorithm } from '../../../shared/conf/wipe-algorithms.ts';
import { clock } from '../../../shared/util/clock.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { raw } from '../../formats/raw.ts';
import { overwrite } from '../../formats/wipe.ts';
import type { Image } from '../../images/image.ts';
import { MemoryImage, Pages } from '../../images/memory-image.ts';
import type {
  Found,
  FoundVolume,
  Identify,
  Identity,
  IdentityStore,
  Known,
  OpenVolume,
  PoolDriver,
  Space,
  Stage,
  StageSpec,
} from '../backend.ts';
import { type Faults, type Faulty, parseFaults } from './faults.ts';

/** Names of one batch. */
const BATCH = 1000;

interface MemoryVolume {
  fingerprint: string;
  pages: Pages;
  isBase?: boolean;
}

class MemoryIdentities extends Map<string, Identity> implements Omit<IdentityStore, 'set' | 'delete'> {
  async [Symbol.asyncDispose](): Promise<void> {}
}

/** The map as a store whose changes are promises. */
function storeOf(map: MemoryIdentities): IdentityStore {
  return {
    get size() {
      return map.size;
    },
    entries: () => map.entries(),
    get: (name) => map.get(name),
    set: async (name, identity) => void map.set(name, identity),
    delete: async (name) => void map.delete(name),
    [Symbol.asyncDispose]: async () => undefined,
  };
}

/** An image that fails where it is asked to. */
function faulty(image: MemoryImage, faults: Faults): Image {
  return {
    get sizeBytes() {
      return image.sizeBytes;
    },
    extents: (from, to) => image.extents(from, to),
    async read(buffer, offset) {
      await faults.at('read');
      await image.read(buffer, offset);
    },
    async write(bytes, offset) {
      await faults.at('write');
      await image.write(bytes, offset);
    },
    zero: (offset, length, dense) => image.zero(offset, length, dense),
    flush: () => image.flush(),
    allocationBytes: () => image.allocationBytes(),
    setSize: (sizeBytes) => image.setSize(sizeBytes),
    close: () => image.close(),
    [Symbol.asyncDispose]: () => image.close(),
  };
}

/** A pool in memory. Everything that a pool of files promises, but for surviving its agent. */
export class MemoryPool implements PoolDriver {
  readonly #directory: string;
  readonly #faults: Faults;
  readonly #capacityBytes: number;
  readonly #volumes = new Map<string, MemoryVolume>();
  readonly #identities = new MemoryIdentities();
  readonly #stages = new Map<string, MemoryStage>();
  #born = 0;

  constructor({ name, target, configOptions }: PoolDefinition) {
    const { faults, capacityBytes } = parseFaults(configOptions);
    this.#directory = target.path ?? `/${name}`;
    this.#faults = faults;
    this.#capacityBytes = capacityBytes;
  }

  start(): Promise<void> {
    return this.#faults.at('start');
  }

  stop(): Promise<void> {
    return this.#faults.at('stop');
  }

  async delete(): Promise<void> {
    if (this.#volumes.size > 0)
      throw new StowageError('pool-not-empty', `the pool still holds ${this.#volumes.size} volumes`);
  }

  async space(): Promise<Space> {
    await this.#faults.at('space');
    return this.#space();
  }

  #space(): Space {
    let allocationBytes = 0;
    for (const { pages } of this.#volumes.values()) allocationBytes += pages.allocationBytes;
    return {
      capacityBytes: this.#capacityBytes,
      allocationBytes,
      availableBytes: Math.max(0, this.#capacityBytes - allocationBytes),
    };
  }

  async identities(): Promise<IdentityStore> {
    return storeOf(this.#identities);
  }

  async *list(known: (name: string) => Known | undefined, signal?: AbortSignal): AsyncGenerator<Found[]> {
    await this.#faults.at('list');
    let batch: Found[] = [];
    for (const name of [...this.#volumes.keys()]) {
      const found = this.#describe(name);
      const before = known(name);
      const unchanged = before?.fingerprint === found?.fingerprint && before?.stamp === found?.stamp;
      if (found) batch.push(unchanged ? { name, unchanged } : found);
      if (batch.length < BATCH) continue;
      yield batch;
      signal?.throwIfAborted();
      batch = [];
    }
    yield batch;
  }

  async look(name: string): Promise<FoundVolume | undefined> {
    await this.#faults.at('look');
    return this.#describe(name);
  }

  #describe(name: string): FoundVolume | undefined {
    const volume = this.#volumes.get(name);
    if (!volume) return undefined;
    const { pages, fingerprint, isBase } = volume;
    const mark = `${pages.changes}`;
    return {
      name,
      type: 'file',
      format: 'raw',
      path: `${this.#directory}/${name}`,
      capacityBytes: pages.sizeBytes,
      allocationBytes: pages.allocationBytes,
      isBase: isBase || undefined,
      snapshotCount: 0,
      fingerprint,
      mark,
      stamp: `${mark}.${pages.sizeBytes}.${isBase}`,
    };
  }

  #get(name: string): MemoryVolume {
    const volume = this.#volumes.get(name);
    if (!volume) throw new StowageError('volume-not-found', `the pool has no volume '${name}'`);
    return volume;
  }

  #refuseExisting(name: string): void {
    if (this.#volumes.has(name))
      throw new StowageError('volume-exists', `the pool has a volume '${name}' already`);
  }

  async #place(name: string, pages: Pages, identify: Identify, replace = false): Promise<void> {
    const fingerprint = `${++this.#born}`;
    await identify(fingerprint);
    if (!replace) this.#refuseExisting(name);
    this.#volumes.set(name, { fingerprint, pages });
  }

  async create(volume: NewVolume, identify: Identify): Promise<void> {
    const { name, capacityBytes, preallocate } = volume;
    await this.#faults.at('create');
    this.#refuseExisting(name);
    if (preallocate && capacityBytes > this.#space().availableBytes)
      throw new StowageError('no-space', `the volume needs ${capacityBytes} bytes, which the pool has not`);
    const pages = new Pages(capacityBytes);
    if (preallocate) pages.zero(0, capacityBytes, true);
    await this.#place(name, pages, identify);
  }

  async remove({ name }: FoundVolume, mark?: string): Promise<void> {
    await this.#faults.at('remove');
    if (mark !== undefined && this.#describe(name)?.mark !== mark)
      throw new StowageError('volume-changed', `volume '${name}' was changed since it was read; it stays`);
    this.#get(name);
    this.#volumes.delete(name);
  }

  async resize({ name }: FoundVolume, capacityBytes: number, shrink: boolean): Promise<void> {
    await this.#faults.at('resize');
    await raw.resize(new MemoryImage(this.#get(name).pages), capacityBytes, shrink);
  }

  async clone({ name }: FoundVolume, target: string, identify: Identify): Promise<void> {
    await this.#faults.at('clone');
    this.#refuseExisting(target);
    await this.#place(target, this.#get(name).pages.copy(), identify);
  }

  async cloneLinked(base: FoundVolume, target: string, identify: Identify): Promise<void> {
    await this.clone(base, target, identify);
  }

  async setBase({ name }: FoundVolume, isBase: boolean): Promise<void> {
    await this.#faults.at('base');
    this.#get(name).isBase = isBase;
  }

  async rename({ name }: FoundVolume, target: string, identify: Identify): Promise<void> {
    await this.#faults.at('rename');
    this.#refuseExisting(target);
    const volume = this.#get(name);
    await identify(volume.fingerprint);
    this.#refuseExisting(target);
    this.#volumes.set(target, volume);
    this.#volumes.delete(name);
  }

  async wipe(
    { name }: FoundVolume,
    algorithm: WipeAlgorithm,
    _identify: Identify,
    signal?: AbortSignal,
  ): Promise<void> {
    await this.#faults.at('wipe');
    await overwrite(new MemoryImage(this.#get(name).pages), algorithm, signal);
  }

  async open({ name }: FoundVolume, _as: Representation): Promise<OpenVolume> {
    await this.#faults.at('open');
    const image = faulty(new MemoryImage(this.#get(name).pages), this.#faults);
    return {
      parts: [{ name: '', sizeBytes: image.sizeBytes, dense: false }],
      sources: [image],
      [Symbol.asyncDispose]: () => image.close(),
    };
  }

  async stage(spec: StageSpec, text: string): Promise<Stage> {
    const begun = this.#stages.get(spec.id);
    if (begun) return begun;
    await this.#faults.at('stage');
    if (!spec.replace) this.#refuseExisting(spec.volume);
    if (spec.format !== 'raw')
      throw new StowageError(
        'not-supported',
        `pools of type 'test' hold no volumes of format ${spec.format}`,
      );
    const stage = new MemoryStage(spec, text, {
      at: (method) => this.#faults.at(method),
      image: (pages) => faulty(new MemoryImage(pages), this.#faults),
      place: (pages, identify) => this.#place(spec.volume, pages, identify, spec.replace),
      drop: () => void this.#stages.delete(spec.id),
    });
    this.#stages.set(spec.id, stage);
    return stage;
  }

  async stages(id?: string): Promise<Stage[]> {
    return [...this.#stages.values()].filter((stage) => id === undefined || stage.id === id);
  }

  async dropStage(id: string): Promise<void> {
    this.#stages.delete(id);
  }
}

interface StageHost {
  at(method: Faulty): Promise<void>;
  image(pages: Pages): Image;
  place(pages: Pages, identify: Identify): Promise<void>;
  drop(): void;
}

class MemoryStage implements Stage {
  readonly id: string;
  readonly spec: string;
  readonly touchedAt = clock.now();
  readonly #spec: StageSpec;
  readonly #host: StageHost;
  readonly #pages: Pages;
  readonly #journal = new Pages(0);
  note: string | undefined;
  #published = false;

  constructor(spec: StageSpec, text: string, host: StageHost) {
    this.id = spec.id;
    this.spec = text;
    this.#spec = spec;
    this.#host = host;
    this.#pages = new Pages(spec.parts[0]!.sizeBytes);
  }

  get sealed(): boolean {
    return this.note !== undefined;
  }

  async images(): Promise<readonly Image[]> {
    if (this.sealed)
      throw new StowageError('job-state', 'the transfer takes no more data: it is being put in place');
    return [this.#host.image(this.#pages)];
  }

  async journal(): Promise<Image> {
    return new MemoryImage(this.#journal);
  }

  async seal(note: string): Promise<void> {
    this.#pages.setSize(Math.max(this.#pages.sizeBytes, this.#spec.capacityBytes ?? 0));
    this.note = note;
  }

  async publish(identify: Identify): Promise<void> {
    await this.#host.at('publish');
    if (this.#published) return;
    await this.#host.place(this.#pages, identify);
    this.#published = true;
  }

  async drop(): Promise<void> {
    this.#host.drop();
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}
