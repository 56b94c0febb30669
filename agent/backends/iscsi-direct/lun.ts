import { StowageError } from '../../../shared/util/errors.ts';
import type { Extent, Image } from '../../images/image.ts';
import { ScsiError, type Session } from './session.ts';

/** What a command moves at most: targets have limits of their own, and this is below those of all that are known. */
const MOST_BYTES = 1 << 20;
/** A target tells of several new things one after the other. */
const ATTEMPTS = 8;
const ZEROED_AT_ONCE = 16 << 20;

/** Size and identity of a unit, as its target tells them. */
export interface LunFacts {
  lun: number;
  sizeBytes: number;
  blockBytes: number;
  uid: string;
  /** Why it cannot be used now. */
  damaged?: string;
}

const hex = (bytes: Buffer): string => bytes.toString('hex');

/**
 * What tells a unit from every other: of the designators of its device identification page the one of the best kind: NAA, EUI-64,
 * then the vendor's own.
 */
function designator(page: Buffer): string | undefined {
  const ranks = [3, 2, 1];
  let best: { rank: number; id: string } | undefined;
  for (let at = 4; at + 4 <= page.length; ) {
    const [association, type, length] = [(page[at + 1]! >> 4) & 3, page[at + 1]! & 15, page[at + 3]!];
    const rank = ranks.indexOf(type);
    const id = `${type}.${hex(page.subarray(at + 4, at + 4 + length))}`;
    if (association === 0 && rank >= 0 && (!best || rank < best.rank)) best = { rank, id };
    at += 4 + length;
  }
  return best?.id;
}

/** The numbers of the units of a target, but for those that are no disks. */
export async function unitsOf(session: Session): Promise<LunFacts[]> {
  const list = await session.command('listing units', (library, context) =>
    library.reportLuns(context, 0, 64 << 10),
  );
  const count = list.length >= 8 ? Math.floor(list.readUInt32BE() / 8) : 0;
  const found: LunFacts[] = [];
  for (let index = 0; index < count; index++) {
    const at = 8 + index * 8;
    // Peripheral and flat addressing: the number is in the first two bytes.
    const lun = list.readUInt16BE(at) & 0x3fff;
    const facts = await unitFacts(session, lun);
    if (facts) found.push(facts);
  }
  return found;
}

/** undefined for a unit that is no disk. */
async function unitFacts(session: Session, lun: number): Promise<LunFacts | undefined> {
  const inquiry = await session.command(`asking unit ${lun} what it is`, (library, context) =>
    library.inquiry(context, lun, 0, 0, 96),
  );
  // Device type 0 is a disk, and it is there.
  if (inquiry.length < 1 || inquiry[0] !== 0) return undefined;
  // One unit that is not ready hides no other.
  let damaged: string | undefined;
  const capacity = await session
    .command(`asking unit ${lun} for its size`, (library, context) => library.readCapacity(context, lun))
    .catch((error) => {
      if (!(error instanceof ScsiError)) throw error;
      damaged = error.message;
      return Buffer.alloc(12);
    });
  if (capacity.length < 12) throw new StowageError('io-error', `iscsi: unit ${lun} does not tell its size`);
  const blockBytes = capacity.readUInt32BE(8);
  const page = await session
    .command(`asking unit ${lun} who it is`, (library, context) =>
      library.inquiry(context, lun, 1, 0x83, 1024),
    )
    .catch((error) => {
      // Only one that knows no such page has no identity: an error would make it another unit.
      if (!(error instanceof ScsiError && error.isUnsupported)) throw error;
      return Buffer.alloc(0);
    });
  return {
    lun,
    blockBytes,
    damaged,
    sizeBytes: damaged === undefined ? (Number(capacity.readBigUInt64BE()) + 1) * blockBytes : 0,
    uid: designator(page) ?? `lun.${lun}`,
  };
}

/** An open unit. */
export class Lun implements Image {
  /** Nobody knows what is in it. */
  readonly uninitialised = true;
  readonly #session: Session;
  readonly #facts: LunFacts;
  /** Parts of blocks are read, changed and written back, one after the other. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(session: Session, facts: LunFacts) {
    this.#session = session;
    this.#facts = facts;
  }

  get sizeBytes(): number {
    return this.#facts.sizeBytes;
  }

  async allocationBytes(): Promise<number> {
    return this.sizeBytes;
  }

  async *extents(from: number, to: number): AsyncGenerator<Extent> {
    const end = Math.min(to, this.sizeBytes);
    if (end > from) yield { offset: from, length: end - from };
  }

  /** Runs a command; where the target says that something about the unit is new, only if it is the same unit still. */
  async #same<T>(command: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await command();
      } catch (error) {
        if (!(error instanceof ScsiError && error.isAttention) || attempt === ATTEMPTS) throw error;
        const { lun, uid, sizeBytes } = this.#facts;
        const now = await unitFacts(this.#session, lun);
        if (now?.uid !== uid || now.sizeBytes !== sizeBytes)
          throw new StowageError(
            'io-error',
            `another unit is in the place of ${lun} now, or it has another size`,
          );
      }
    }
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    const { lun, blockBytes, sizeBytes } = this.#facts;
    const end = Math.min(offset + buffer.length, sizeBytes);
    buffer.fill(0, Math.max(0, end - offset));
    for (let at = offset; at < end; ) {
      const start = at - (at % blockBytes);
      const stop = Math.min(Math.ceil(end / blockBytes) * blockBytes, start + MOST_BYTES);
      const target = buffer.subarray(at - offset, Math.min(stop, end) - offset);
      if (at === start && stop <= end)
        await this.#same(() => this.#session.read(lun, start / blockBytes, blockBytes, target));
      else {
        const blocks = Buffer.alloc(stop - start);
        await this.#same(() => this.#session.read(lun, start / blockBytes, blockBytes, blocks));
        target.set(blocks.subarray(at - start, at - start + target.length));
      }
      at = Math.min(stop, end);
    }
  }

  write(bytes: Uint8Array, offset: number): Promise<void> {
    if (offset + bytes.length > this.sizeBytes)
      throw new StowageError('no-space', `the unit has ${this.sizeBytes} bytes`);
    const work = (): Promise<void> => this.#write(bytes, offset);
    const result = this.#last.then(work, work);
    this.#last = result.catch(() => undefined);
    return result;
  }

  async #write(bytes: Uint8Array, offset: number): Promise<void> {
    const { lun, blockBytes } = this.#facts;
    const end = offset + bytes.length;
    for (let at = offset; at < end; ) {
      const start = at - (at % blockBytes);
      const stop = Math.min(Math.ceil(end / blockBytes) * blockBytes, start + MOST_BYTES);
      const part = bytes.subarray(at - offset, Math.min(stop, end) - offset);
      let blocks: Uint8Array = part;
      if (at !== start || stop > end) {
        blocks = Buffer.alloc(stop - start);
        await this.#same(() => this.#session.read(lun, start / blockBytes, blockBytes, blocks));
        blocks.set(part, at - start);
      }
      await this.#same(() => this.#session.write(lun, start / blockBytes, blockBytes, blocks));
      at = Math.min(stop, end);
    }
  }

  async zero(offset: number, length: number, dense = false): Promise<void> {
    const { lun, blockBytes } = this.#facts;
    const first = Math.ceil(offset / blockBytes) * blockBytes;
    const last = Math.floor((offset + length) / blockBytes) * blockBytes;
    if (dense || last <= first) return this.#writeZeros(offset, length);
    await this.#writeZeros(offset, first - offset);
    const zeros = Buffer.alloc(blockBytes);
    for (let at = first; at < last; at += ZEROED_AT_ONCE) {
      const part = Math.min(ZEROED_AT_ONCE, last - at);
      try {
        await this.#same(() =>
          this.#session.command(
            'zeroing',
            (library, context) =>
              library.writeSame(
                context,
                lun,
                at / blockBytes,
                zeros,
                blockBytes,
                part / blockBytes,
                0,
                0,
                0,
                0,
              ),
            { attentions: 0 },
          ),
        );
      } catch (error) {
        // A target need not know the command.
        if (!(error instanceof ScsiError && error.isUnsupported)) throw error;
        await this.#writeZeros(at, part);
      }
    }
    await this.#writeZeros(last, offset + length - last);
  }

  async #writeZeros(offset: number, length: number): Promise<void> {
    const zeros = Buffer.alloc(Math.min(MOST_BYTES, Math.max(0, length)));
    for (let done = 0; done < length; done += MOST_BYTES)
      await this.write(zeros.subarray(0, Math.min(MOST_BYTES, length - done)), offset + done);
  }

  async flush(): Promise<void> {
    const { lun } = this.#facts;
    await this.#session.command('making what was written durable', (library, context) =>
      library.synchronise(context, lun, 0, 0, 0, 0),
    );
  }

  /** The session is the pool's. */
  async close(): Promise<void> {
    await this.#last;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
