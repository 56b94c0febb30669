import { CHUNK_BYTES } from './chunks.ts';

const MOST = 32;
const WASM_PAGE = 64 << 10;

/** What Node has of it and its types have not. */
declare const WebAssembly: {
  Memory: new (size: { initial: number; maximum: number }) => { readonly buffer: ArrayBuffer };
};

/** Page-aligned, which no Buffer is, so that the kernel can take chunks from here straight to the disk. */
const memory = new WebAssembly.Memory({
  initial: (MOST * CHUNK_BYTES) / WASM_PAGE,
  maximum: (MOST * CHUNK_BYTES) / WASM_PAGE,
});
const spare = Array.from({ length: MOST }, (_, index) =>
  Buffer.from(memory.buffer, index * CHUNK_BYTES, CHUNK_BYTES),
);

/** Buffers of one chunk, used again and again: allocating 2 MiB for each chunk costs more than moving it. */
export const chunkBuffers = {
  borrow(): Buffer<ArrayBuffer> {
    return spare.pop() ?? Buffer.allocUnsafeSlow(CHUNK_BYTES);
  },
  giveBack(buffer: Buffer<ArrayBuffer>): void {
    if (spare.length < MOST) spare.push(buffer);
  },
};
