import type { Duplex } from 'node:stream';

/** The number of the call that the bytes belong to, and how many there are. */
const HEADER_BYTES = 12;

/** Bytes that are awaited, or that came before somebody awaited them. */
interface Parcel {
  id: number;
  bytes: Uint8Array;
  done: number;
  hasArrived: boolean;
  arrived: PromiseWithResolvers<Uint8Array>;
}

/**
 * Bytes between an agent and the process of a pool, on a stream of their own: as parts of messages they would be copied and parsed
 * several times. Each parcel has the number of a call.
 */
export class ByteChannel {
  readonly #stream: Duplex;
  /** Parcels that are on their way, or that have come and are not taken, by their calls. */
  readonly #parcels = new Map<number, Parcel>();
  /** Calls whose bytes nobody will take. */
  readonly #unwanted = new Set<number>();
  readonly #header = Buffer.alloc(HEADER_BYTES);
  #headerDone = 0;
  #current: Parcel | undefined;
  #sending: Promise<void> = Promise.resolve();

  constructor(stream: Duplex) {
    this.#stream = stream;
    stream.on('data', (part: Buffer) => this.#receive(part));
    stream.on('error', () => undefined);
    stream.once('close', () => {
      for (const { arrived } of this.#parcels.values())
        arrived.reject(new Error('the other process has ended'));
    });
  }

  /** Sends bytes, after those before. When it settles they may be changed. */
  send(id: number, bytes: Uint8Array): Promise<void> {
    const header = Buffer.alloc(HEADER_BYTES);
    header.writeDoubleLE(id, 0);
    header.writeUInt32LE(bytes.length, 8);
    const send = async (): Promise<void> => {
      if (this.#stream.destroyed) throw new Error('the other process has ended');
      this.#stream.write(header);
      await new Promise<void>((resolve, reject) =>
        this.#stream.write(bytes, (error) => (error ? reject(error) : resolve())),
      );
    };
    const sent = this.#sending.then(send);
    this.#sending = sent.catch(() => undefined);
    return sent;
  }

  /** The bytes of a call, put into `target` where that is given: asked for before they are sent. */
  receive(id: number, target?: Uint8Array): Promise<Uint8Array> {
    const parcel = this.#parcels.get(id) ?? newParcel(id, target ?? new Uint8Array(0));
    this.#parcels.set(id, parcel);
    if (this.#stream.destroyed && !parcel.hasArrived)
      parcel.arrived.reject(new Error('the other process has ended'));
    return parcel.arrived.promise;
  }

  /** The call is over: nobody takes its bytes any more. `willCome`: those that have not come yet will. */
  forget(id: number, willCome: boolean): void {
    const parcel = this.#parcels.get(id);
    this.#parcels.delete(id);
    const isHere = parcel !== undefined && (parcel === this.#current || parcel.hasArrived);
    // Its memory may be in use for something else by now: what still comes goes nowhere.
    if (parcel && parcel === this.#current && !parcel.hasArrived)
      this.#current = { ...parcel, bytes: Buffer.allocUnsafeSlow(parcel.bytes.length) };
    if (willCome && !isHere) this.#unwanted.add(id);
  }

  #receive(part: Buffer): void {
    for (let at = 0; at < part.length; ) {
      if (!this.#current) {
        const count = part.copy(this.#header, this.#headerDone, at, at + HEADER_BYTES - this.#headerDone);
        at += count;
        this.#headerDone += count;
        if (this.#headerDone < HEADER_BYTES) return;
        this.#headerDone = 0;
        this.#begin(this.#header.readDoubleLE(0), this.#header.readUInt32LE(8));
      }
      const parcel = this.#current!;
      const count = Math.min(part.length - at, parcel.bytes.length - parcel.done);
      parcel.bytes.set(part.subarray(at, at + count), parcel.done);
      parcel.done += count;
      at += count;
      if (parcel.done < parcel.bytes.length) return;
      this.#current = undefined;
      parcel.hasArrived = true;
      parcel.arrived.resolve(parcel.bytes);
    }
  }

  /** A parcel that nobody expects yet is kept until somebody does. */
  #begin(id: number, length: number): void {
    const expected = this.#parcels.get(id);
    if (expected && expected.bytes.length === length) {
      this.#current = expected;
      return;
    }
    const parcel = newParcel(id, Buffer.allocUnsafeSlow(length), expected?.arrived);
    if (!this.#unwanted.delete(id)) this.#parcels.set(id, parcel);
    this.#current = parcel;
  }
}

function newParcel(id: number, bytes: Uint8Array, arrived = Promise.withResolvers<Uint8Array>()): Parcel {
  arrived.promise.catch(() => undefined);
  return { id, bytes, done: 0, hasArrived: false, arrived };
}
