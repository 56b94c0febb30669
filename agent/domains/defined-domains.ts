import { createHash } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { parseDiskElement } from '../../shared/conf/disk/disk.ts';
import { checkDomain, type VolumeResolver } from '../../shared/conf/domain-rules.ts';
import { type DomainDocument, formatDomain, isQemu, parseDomain } from '../../shared/conf/domain-xml.ts';
import { readXml } from '../../shared/conf/xml/read.ts';
import { unsupported } from '../../shared/conf/xml/values.ts';
import { type Affect, type Domain, MOST_IMAGES, type UsedImage } from '../../shared/protocol/domains.ts';
import type { DeviceChange } from '../../shared/protocol/lists.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { checkName } from '../../shared/util/references.ts';
import { type Configuration, readConfigurations } from '../host/configurations.ts';
import { removeIfExists, replaceFile, syncDirectory } from '../host/files.ts';
import { affected, changeDisks, refuseColdBus } from './device-changes.ts';
import { imagesOf } from './images.ts';
import { type PathOf, refuseShared } from './sharing.ts';
import { unreadable } from './unreadable.ts';

const storedSchema = z
  .object({ config: z.string().optional(), live: z.string().optional() })
  .refine(({ config, live }) => config !== undefined || live !== undefined, 'no document in it');

/** What a volume is that a disk names. Throws for one that is not there; `running`: for one that cannot be used now, too. */
export type HostVolumes = (pool: string, volume: string, running: boolean) => ReturnType<VolumeResolver>;

/** What starts next time, and what runs now: one of them is always there. */
interface Stored {
  config?: DomainDocument;
  live?: DomainDocument;
}

/** Documents come in as those of domains that do not run, and are kept with all that is in them. */
const GIVEN = { live: false };
const STORED = { live: true, secure: true };

/** Names may be longer than those of files. */
function fileName(name: string): string {
  const encoded = encodeURIComponent(name);
  return encoded.length <= 200 ? encoded : createHash('sha256').update(name).digest('hex');
}

/** The domain whose file has this name; somebody else's file keeps its own. */
function nameOf(file: string): string {
  try {
    return decodeURIComponent(file);
  } catch {
    return file;
  }
}

/** Most images are in both forms of a domain. */
function unique(images: UsedImage[]): UsedImage[] {
  return [...new Map(images.map((image) => [JSON.stringify(image), image])).values()];
}

/**
 * The domains that were defined here. Stowage starts no guest: `start` and `destroy` are for the hypervisor to tell what
 * runs, and to be refused before it tries what could not. One file a domain holds both its forms, replaced as a whole.
 */
export class DefinedDomains {
  readonly #directory: string;
  readonly #volumes: HostVolumes;
  readonly #pathOf: PathOf;
  readonly #domains = new Map<string, Stored>();
  /** What could not be read, and the file it is in: somebody may have named that otherwise than we do. */
  readonly #broken = new Map<string, { domain: Domain; path: string }>();
  /** Ends when the last change does: they come one after the other. */
  #last: Promise<unknown> = Promise.resolve();
  #nextId = 1;

  private constructor(directory: string, volumes: HostVolumes, pathOf: PathOf) {
    this.#directory = directory;
    this.#volumes = volumes;
    this.#pathOf = pathOf;
  }

  static async open(
    directory: string,
    volumes: HostVolumes,
    pathOf: PathOf = () => undefined,
  ): Promise<DefinedDomains> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const domains = new DefinedDomains(directory, volumes, pathOf);
    for (const file of await readConfigurations(directory, '.json')) domains.#load(file);
    return domains;
  }

  /** A file that cannot be read holds its domain back, not the agent: until it is undefined or defined anew it is told of. */
  #load(file: Configuration): void {
    try {
      const stored = storedSchema.parse(JSON.parse(file.text));
      const config = stored.config === undefined ? undefined : parseDomain(stored.config, STORED);
      const live = stored.live === undefined ? undefined : parseDomain(stored.live, STORED);
      const { name } = (live ?? config)!;
      this.#domains.set(name, { config, live });
      this.#nextId = Math.max(this.#nextId, Number(live?.id ?? 0) + 1);
    } catch (error) {
      const name = nameOf(file.name);
      this.#broken.set(name, {
        domain: unreadable('stowage', { ...file, name }, error),
        path: this.#path(file.name),
      });
    }
  }

  #path(file: string): string {
    return join(this.#directory, `${file}.json`);
  }

  #change<T>(work: () => Promise<T>): Promise<T> {
    const change = this.#last.then(work, work);
    this.#last = change.catch(() => undefined);
    return change;
  }

  #get(name: string): Stored {
    const stored = this.#domains.get(name);
    if (!stored) throw new StowageError('domain-not-found', `failed to get domain '${name}'`);
    return stored;
  }

  /** The one list of rules, for what is saved and for what runs. With `changed` only the volume of that disk must be there. */
  #check(document: DomainDocument, running: boolean, changed?: string): void {
    checkDomain(document, ({ source: { volume }, target: { dev } }) =>
      // A volume that another disk has lost must not keep a domain from being mended.
      volume && (changed === undefined || changed === dev)
        ? this.#volumes(volume.pool, volume.volume, running)
        : undefined,
    );
    if (running) {
      const others = [...this.#domains.values()].flatMap(({ live }) => live ?? []);
      refuseShared(document, others, this.#pathOf);
    }
  }

  async #save(name: string, { config, live }: Stored): Promise<void> {
    const path = this.#path(fileName(name));
    if (!config && !live) {
      await removeIfExists(path);
      await syncDirectory(this.#directory);
      this.#domains.delete(name);
      return;
    }
    const text = {
      config: config && formatDomain(config, STORED),
      live: live && formatDomain(live, STORED),
    };
    if (this.#describe({ config, live }).images.length > MOST_IMAGES)
      throw new StowageError('invalid-argument', `a domain names at most ${MOST_IMAGES} images`);
    // What could not be read again after a restart is not taken.
    for (const document of Object.values(text)) if (document !== undefined) parseDomain(document, STORED);
    await replaceFile(path, JSON.stringify(text));
    this.#domains.set(name, { config, live });
    const broken = this.#broken.get(name);
    if (broken && broken.path !== path) await removeIfExists(broken.path);
    this.#broken.delete(name);
  }

  // ---- looking ----

  #describe({ config, live }: Stored): Domain {
    const { name, uuid } = (live ?? config)!;
    return {
      name,
      uuid,
      origin: 'stowage',
      state: live ? 'running' : 'shut off',
      persistent: config !== undefined,
      images: unique([config, live].flatMap((document) => (document ? imagesOf(document) : []))),
    };
  }

  list(): Domain[] {
    return [...this.#domains.values()]
      .map((stored) => this.#describe(stored))
      .concat([...this.#broken.values()].map(({ domain }) => domain));
  }

  /** The document of what runs, or with `inactive`, and of a domain that does not, of what starts next. */
  document(name: string, { inactive, secure }: { inactive: boolean; secure: boolean }): string {
    const { config, live } = this.#get(name);
    if (live && !inactive) return formatDomain(live, { live: true, secure });
    return formatDomain((config ?? live)!, { live: false, secure });
  }

  // ---- changing ----

  /** Makes a domain, or replaces what a domain of the same name and UUID starts with next time. */
  define(xml: string): Promise<Domain> {
    return this.#change(async () => {
      const config = parseDomain(xml, GIVEN);
      checkName('domain', config.name);
      const before = this.#domains.get(config.name);
      const known = before?.live ?? before?.config;
      if (known && known.uuid !== config.uuid)
        throw new StowageError(
          'domain-exists',
          `operation failed: domain '${config.name}' already exists with uuid ${known.uuid}`,
        );
      for (const [name, stored] of this.#domains)
        if (name !== config.name && (stored.live ?? stored.config)?.uuid === config.uuid)
          throw new StowageError(
            'domain-exists',
            `operation failed: domain '${name}' is already defined with uuid ${config.uuid}`,
          );
      this.#check(config, false);
      const stored = { config, live: before?.live };
      await this.#save(config.name, stored);
      return this.#describe(stored);
    });
  }

  /** Forgets what the domain would start with; one that runs does so until it is stopped. */
  undefine(name: string): Promise<void> {
    return this.#change(async () => {
      const broken = this.#broken.get(name);
      if (broken) {
        await removeIfExists(broken.path);
        await syncDirectory(this.#directory);
        this.#broken.delete(name);
        return;
      }
      const { config, live } = this.#get(name);
      if (!config)
        throw new StowageError(
          'domain-state',
          'Requested operation is not valid: cannot undefine transient domain',
        );
      await this.#save(name, { live });
    });
  }

  /** Records that the domain runs, after the rules were asked again: what it stands on may have changed. */
  start(name: string): Promise<Domain> {
    return this.#change(async () => {
      const { config, live } = this.#get(name);
      if (live || !config)
        throw new StowageError('domain-state', 'Requested operation is not valid: domain is already running');
      this.#check(config, true);
      const stored = { config, live: { ...config, id: String(this.#nextId++) } };
      await this.#save(name, stored);
      return this.#describe(stored);
    });
  }

  /** Records that the domain runs no more. */
  destroy(name: string): Promise<void> {
    return this.#change(async () => {
      const { config, live } = this.#get(name);
      if (!live)
        throw new StowageError('domain-state', 'Requested operation is not valid: domain is not running');
      await this.#save(name, { config });
    });
  }

  /** Changes one disk in every form that is asked for, or in none. */
  changeDevice(name: string, xml: string, change: DeviceChange, affect: Affect): Promise<Domain> {
    return this.#change(async () => {
      const stored = this.#get(name);
      const { config, live } = stored;
      const forms = affected(
        affect,
        { running: live !== undefined, persistent: config !== undefined },
        change,
      );
      const element = readXml(xml);
      if (element.name !== 'disk') throw unsupported(`unknown device type '${element.name}'`);
      const apply = (document: DomainDocument, form: 'live' | 'config'): DomainDocument => {
        // As libvirt does: nobody attaches a running mirror.
        const disk = parseDiskElement(element, { live: false, narrowScsi: !isQemu(document.type) });
        const changed = { ...document, disks: changeDisks(document, disk, change, form) };
        // What is taken away cannot be wrong, and what else is missing must not keep it.
        if (change !== 'detach-device') this.#check(changed, form === 'live', disk.target.dev);
        if (change === 'attach-device' && form === 'live') refuseColdBus(disk);
        return changed;
      };
      const next: Stored = {
        config: config && forms.config ? apply(config, 'config') : config,
        live: live && forms.live ? apply(live, 'live') : live,
      };
      await this.#save(name, next);
      return this.#describe(next);
    });
  }
}
