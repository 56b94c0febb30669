import { CHUNK_BYTES } from './chunks.ts';

const BLOCK = 32;
/** Beyond so many, which is 256 MiB, buffers come from the heap and are not kept. */
const MOST = 4 * BLOCK;
const WASM_PAGE = 64 << 10;

/** What Node has of it and its types have not. */
declare const WebAssembly: {
  Memory: new (size: { initial: number; maximum: number }) => { readonly buffer: ArrayBuffer };
};

const spare: Buffer<ArrayBuffer>[] = [];
const aligned = new WeakSet<Buffer>();
let made = 0;

/** Page-aligned, which no Buffer is, so that the kernel can take chunks from here straight to the disk. */
function addBlock(): void {
  const pages = (BLOCK * CHUNK_BYTES) / WASM_PAGE;
  const { buffer } = new WebAssembly.Memory({ initial: pages, maximum: pages });
  for (let index = 0; index < BLOCK; index++) {
    const chunk = Buffer.from(buffer, index * CHUNK_BYTES, CHUNK_BYTES);
    aligned.add(chunk);
    spare.push(chunk);
  }
  made += BLOCK;
}

/** Buffers of one chunk, used again and again: allocating 2 MiB for each chunk costs more than moving it. */
export const chunkBuffers = {
  borrow(): Buffer<ArrayBuffer> {
    if (spare.length === 0 && made < MOST) addBlock();
    return spare.pop() ?? Buffer.allocUnsafeSlow(CHUNK_BYTES);
  },
  /** Once for each that was borrowed, when nobody uses it any more. */
  giveBack(buffer: Buffer<ArrayBuffer>): void {
    if (aligned.has(buffer)) spare.push(buffer);
  },
};
