import { isDeepStrictEqual } from 'node:util';
import type { Volume, VolumeEncryption, VolumeFormat } from '../../shared/conf/volume.ts';
import type { FoundVolume, Identity, IdentityStore, Known } from '../backends/backend.ts';
import { isOverlayOn } from './overlays.ts';

interface Entry {
  volume: Volume;
  found: Pick<FoundVolume, 'fingerprint' | 'mark' | 'stamp'>;
}

/** Whether anything differs that somebody would want to be told: reading a file is no news. */
function isNews(before: Volume | undefined, after: Volume): boolean {
  if (!before) return true;
  const [one, other] = [before, after].map(({ timestamps, ...volume }) => ({
    ...volume,
    mtime: timestamps?.mtime,
  }));
  return !isDeepStrictEqual(one, other);
}

/** What is put on record of a volume that is new here. An empty file says nothing yet: who makes one may write its header next. */
function formatToRecord({ format, capacityBytes }: FoundVolume): VolumeFormat | undefined {
  return format === 'unknown' || (format === 'raw' && capacityBytes === 0) ? undefined : format;
}

/** With the secret that is on record; what is on record is all that is known of a damaged one. */
function encryptionOf(
  { encryption, damaged }: FoundVolume,
  { secret }: Identity,
): VolumeEncryption | undefined {
  if (encryption) return { ...encryption, secret };
  return damaged !== undefined && secret !== undefined ? { format: 'luks', secret } : undefined;
}

/** Whether a fingerprint is that of before a replacement. Where files are known by nothing but their names both have the same one. */
const isFormer = ({ formerly, fingerprint: now }: Identity, fingerprint: string): boolean =>
  formerly?.fingerprint === fingerprint && now !== fingerprint;

/**
 * What is in a pool, by name, and which volume has which id. Ids are random and stay with their volume: under another name,
 * over a restart, and while its storage is away. A new volume of an old name is another volume.
 */
export class IndexOfVolumes {
  readonly #entries = new Map<string, Entry>();
  readonly #identities: IdentityStore;
  /** The name under which a fingerprint is on record. */
  readonly #names = new Map<string, string>();
  /** Another name under which it is on record too: of a rename that was begun. */
  readonly #twins = new Map<string, string>();
  readonly #clonesAreOverlays: boolean;
  /** Records whose name another volume has taken, by fingerprint: two volumes may have changed names. */
  readonly #displaced = new Map<string, Identity>();

  /** Gives the id for a fingerprint that is not on record. */
  readonly newId: (fingerprint: string) => string;

  /** `clonesAreOverlays`: a linked clone tells by its header what it stands on. */
  constructor(identities: IdentityStore, newId: (fingerprint: string) => string, clonesAreOverlays = false) {
    this.#identities = identities;
    this.#clonesAreOverlays = clonesAreOverlays;
    this.newId = newId;
    for (const [name, { fingerprint }] of identities.entries()) this.#note(fingerprint, name);
  }

  #note(fingerprint: string, name: string): void {
    const other = this.#names.get(fingerprint);
    if (other !== undefined && other !== name) this.#twins.set(fingerprint, other);
    this.#names.set(fingerprint, name);
  }

  get(name: string): Volume | undefined {
    return this.#entries.get(name)?.volume;
  }

  /** As its storage told it when it was last looked at. */
  found(name: string): FoundVolume | undefined {
    const entry = this.#entries.get(name);
    if (!entry) return undefined;
    const { id: _id, etag: _etag, ...facts } = entry.volume;
    return { ...facts, ...entry.found };
  }

  names(): IterableIterator<string> {
    return this.#entries.keys();
  }

  volumes(): Volume[] {
    return [...this.#entries.values()].map(({ volume }) => volume);
  }

  identity(name: string): Identity | undefined {
    return this.#identities.get(name);
  }

  /** The name of the volume that a transfer became. */
  ofTransfer(id: string): string | undefined {
    for (const [name, { transfer }] of this.#identities.entries()) if (transfer === id) return name;
    return undefined;
  }

  known(name: string): Known | undefined {
    const identity = this.#identities.get(name);
    if (!identity) return undefined;
    const entry = this.#entries.get(name);
    // What is damaged is looked at again: what was wrong may have been mended without a change of the file.
    const stamp = entry && !entry.volume.damaged ? entry.found.stamp : undefined;
    return { fingerprint: identity.fingerprint, format: identity.format, isBase: identity.isBase, stamp };
  }

  /** The format that a volume has on record under another name, under one that was taken from it, or as it was before. */
  formatOf(name: string, fingerprint: string): VolumeFormat | undefined {
    const formerly = this.#identities.get(name)?.formerly;
    if (formerly && isFormer(this.#identities.get(name)!, fingerprint)) return formerly.format;
    const other = this.otherName(name, fingerprint);
    const record = other === undefined ? this.#displaced.get(fingerprint) : this.#identities.get(other);
    return record?.fingerprint === fingerprint ? record.format : undefined;
  }

  /** At the end of a look at everything: whoever has not found a name by now is gone. */
  forgetDisplaced(): void {
    this.#displaced.clear();
  }

  /** Another name under which the volume of this fingerprint is on record. */
  otherName(name: string, fingerprint: string): string | undefined {
    const other = this.#names.get(fingerprint);
    return other === name ? undefined : other;
  }

  /** Settles when it is durable. */
  async identify(name: string, identity: Identity): Promise<void> {
    const before = this.#identities.get(name);
    if (before && this.#names.get(before.fingerprint) === name) this.#forgetName(before.fingerprint);
    this.#note(identity.fingerprint, name);
    await this.#identities.set(name, identity);
  }

  /** Puts on record what is kept of a volume beside its storage. Settles when it is durable. */
  async keep(
    name: string,
    kept: Partial<Pick<Identity, 'secret' | 'notes' | 'isProtected' | 'isBase' | 'baseId' | 'transfer'>>,
  ): Promise<void> {
    const identity = this.#identities.get(name);
    if (identity) await this.identify(name, { ...identity, ...kept });
  }

  /** The names of the volumes that stand on a base: those that are on record for it, and overlays whoever made them. */
  clonesOf(base: Volume): string[] {
    const stands = (volume: Volume): boolean => volume.parentId === base.id || isOverlayOn(volume, base);
    const names = [...this.#entries.values()].flatMap(({ volume }) => (stands(volume) ? [volume.name] : []));
    return names.sort();
  }

  /** Puts back what was on record of a name. */
  async restore(name: string, identity: Identity | undefined): Promise<void> {
    if (this.#identities.get(name) === identity) return;
    await (identity ? this.identify(name, identity) : this.forget(name));
  }

  async forget(name: string): Promise<void> {
    const before = this.#identities.get(name);
    if (before && this.#names.get(before.fingerprint) === name) this.#forgetName(before.fingerprint);
    await this.#identities.delete(name);
  }

  #forgetName(fingerprint: string): void {
    const twin = this.#twins.get(fingerprint);
    this.#twins.delete(fingerprint);
    if (twin !== undefined && this.#identities.get(twin)?.fingerprint === fingerprint)
      this.#names.set(fingerprint, twin);
    else this.#names.delete(fingerprint);
  }

  /**
   * Notes what was found under a name. `movedFrom` is a name that the same volume had, and has no more. Gives the volume when
   * it is news. `saved` settles when its id is durable.
   */
  put(found: FoundVolume, movedFrom?: string): { news: Volume | undefined; saved: Promise<void> } {
    const { fingerprint, mark, stamp, ...facts } = found;
    const { name } = found;
    const format = formatToRecord(found);
    let identity = this.#identities.get(name);
    let saved: Promise<void> = Promise.resolve();
    if (identity?.formerly && isFormer(identity, fingerprint)) {
      // It was not replaced.
      const { formerly, transfer: _transfer, secret: _secret, parentId: _parentId, ...kept } = identity;
      identity = { ...kept, ...formerly };
      saved = this.identify(name, identity);
    } else if (identity?.fingerprint !== fingerprint) {
      const moved = movedFrom === undefined ? undefined : this.#identities.get(movedFrom);
      if (identity && moved) this.#displaced.set(identity.fingerprint, identity);
      identity =
        moved?.fingerprint === fingerprint
          ? moved
          : (this.#displaced.get(fingerprint) ?? { id: this.newId(fingerprint), fingerprint, format });
      saved = this.identify(name, identity);
      if (movedFrom !== undefined && moved)
        saved = Promise.all([saved, this.#identities.delete(movedFrom)]).then();
    } else if (identity.format === undefined && format !== undefined) {
      identity = { ...identity, format };
      saved = this.identify(name, identity);
    }
    const volume: Volume = {
      id: identity.id,
      ...facts,
      encryption: encryptionOf(found, identity),
      // An overlay that was given all that it stood on stands alone.
      parentId: this.#clonesAreOverlays && !found.backingStore ? undefined : identity.parentId,
      baseId: found.isBase ? identity.baseId : undefined,
      notes: identity.notes,
      isProtected: identity.isProtected,
      etag: `${identity.id}-${found.damaged ? 'damaged' : mark}`,
    };
    const before = this.#entries.get(name)?.volume;
    this.#entries.set(name, { volume, found: { fingerprint, mark, stamp } });
    return { news: isNews(before, volume) ? volume : undefined, saved };
  }

  /** Notes that a volume has this name no more; gives the id it had under it. Undefined where another volume is known by it. */
  leave(name: string, fingerprint: string): string | undefined {
    const entry = this.#entries.get(name);
    if (entry?.found.fingerprint !== fingerprint) return undefined;
    this.#entries.delete(name);
    return entry.volume.id;
  }

  /** Notes that nothing has this name any more; gives what had it. The id is forgotten with it. */
  drop(name: string): Volume | undefined {
    const entry = this.#entries.get(name);
    this.#entries.delete(name);
    void this.forget(name).catch(() => undefined);
    return entry?.volume;
  }
}
