import type { Source, SourceExtent } from '../../../shared/transfer/source.ts';
import { Turns } from '../../../shared/util/turns.ts';
import { isZero, readFully } from '../../host/files.ts';
import { type Chain, openChain, readDescriptor } from './volume.ts';

/** What the guest sees of one snapshot, read through the whole chain. */
export class PloopContent implements Source {
  readonly sizeBytes: number;
  readonly #chain: Chain;

  constructor(chain: Chain) {
    this.#chain = chain;
    this.sizeBytes = chain.top.sizeBytes;
  }

  static async open(directory: string, guid?: string): Promise<PloopContent> {
    const descriptor = await readDescriptor(directory);
    return new PloopContent(await openChain(directory, descriptor, guid ?? descriptor.topGuid));
  }

  async *extents(from: number, to: number): AsyncGenerator<SourceExtent> {
    const { clusterBytes } = this.#chain.top;
    let start: number | undefined;
    const turns = new Turns();
    for (let offset = from; offset < to; ) {
      if (turns.due) await turns.next();
      const index = Math.floor(offset / clusterBytes);
      const held = this.#chain.find(index) !== undefined;
      if (held && start === undefined) start = offset;
      if (!held && start !== undefined) {
        yield { offset: start, length: offset - start };
        start = undefined;
      }
      offset = (index + 1) * clusterBytes;
    }
    if (start !== undefined) yield { offset: start, length: to - start };
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    const { clusterBytes } = this.#chain.top;
    for (let done = 0; done < buffer.length; ) {
      const index = Math.floor((offset + done) / clusterBytes);
      const within = (offset + done) % clusterBytes;
      const part = buffer.subarray(done, done + Math.min(clusterBytes - within, buffer.length - done));
      const place = this.#chain.find(index);
      if (place) await readFully(place.delta.file, part, place.offset + within);
      else part.fill(0);
      done += part.length;
    }
  }

  async close(): Promise<void> {
    await this.#chain[Symbol.asyncDispose]();
  }
}

/** Copies what a source holds into a new delta, cluster by cluster; clusters of zeros take no place. */
export async function writeContent(source: Source, delta: Chain['top'], signal?: AbortSignal): Promise<void> {
  await delta.begin();
  const buffer = Buffer.alloc(delta.clusterBytes);
  let next = 0;
  for await (const extent of source.extents(0, Math.min(source.sizeBytes, delta.sizeBytes))) {
    const last = Math.ceil((extent.offset + extent.length) / delta.clusterBytes);
    for (let index = Math.max(next, Math.floor(extent.offset / delta.clusterBytes)); index < last; index++) {
      signal?.throwIfAborted();
      const offset = index * delta.clusterBytes;
      const wanted = Math.min(delta.clusterBytes, source.sizeBytes - offset);
      await source.read(buffer.subarray(0, wanted), offset);
      buffer.fill(0, wanted);
      if (!isZero(buffer)) await delta.writeCluster(index, buffer);
      next = index + 1;
    }
  }
  await delta.commit();
}
