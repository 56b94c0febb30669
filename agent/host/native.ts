import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pLimit from 'p-limit';
import { StowageError } from '../../shared/util/errors.ts';

/** An address in memory; 0n where C has NULL. */
export type Address = bigint;
/** Memory is given as a buffer, whose bytes C may change until the call ends. */
type Argument = number | bigint | string | Uint8Array | Callback | null;
type Result = number | bigint | null;

/** A function of ours that C may call. */
export interface Callback {
  readonly address: unknown;
}

interface NativeFunction {
  (...args: unknown[]): Result;
  /** The last argument is called with an error or the result. */
  async(...args: unknown[]): void;
}

interface Koffi {
  load(library: string): { func(prototype: string): NativeFunction };
  errno(): number;
  decode(at: Address | Uint8Array, type: string, length?: number): unknown;
  address(buffer: Uint8Array): Address;
  proto(prototype: string): unknown;
  pointer(type: unknown): unknown;
  register(work: (...args: never[]) => number, type: unknown): unknown;
}

const here = dirname(fileURLToPath(import.meta.url));

/** Where the FFI addon may lie: beside the bundled agent, or in a checkout's node_modules. */
function addonPaths(): string[] {
  const name = `koffi-linux-${process.arch}`;
  return [
    join(here, 'koffi.node'),
    join(here, `../../node_modules/@koromix/${name}/linux_${process.arch}/koffi.node`),
  ];
}

function loadKoffi(): { koffi?: Koffi; reason?: string } {
  if (process.env.STOWAGE_NO_NATIVE) return { reason: 'switched off by STOWAGE_NO_NATIVE' };
  const path = addonPaths().find((candidate) => existsSync(candidate));
  if (!path) return { reason: 'koffi.node is not beside the agent' };
  try {
    return { koffi: createRequire(import.meta.url)(path) as Koffi };
  } catch (error) {
    return { reason: error instanceof Error ? error.message : String(error) };
  }
}

/** Calls under way at once: the addon refuses more than 256, and there are far fewer threads. */
const callLimit = pLimit(128);
/** Arguments of calls under way: their memory must stay. */
const inUse = new Set<Argument[]>();
/** What memory points to, which must stay as long as it does. */
const targets = new WeakMap<Buffer, Buffer[]>();

const { koffi, reason } = loadKoffi();

/** Why no C library can be called here; undefined where they can. */
export const nativeMissingReason: string | undefined = reason;

/** One library of C that the host has. */
export interface NativeLibrary {
  /** A function by its prototype, called on this thread: for what never waits. */
  sync(prototype: string): (...args: Argument[]) => Result;
  /** A function by its prototype, called on a thread of its own. Memory that it is given stays there until it ends. */
  async(prototype: string): (...args: Argument[]) => Promise<Result>;
}

/** Throws `tool-missing` where the library, or what calls it, is not there. */
export function loadLibrary(name: string): NativeLibrary {
  if (!koffi) throw new StowageError('tool-missing', `${name} cannot be called: ${reason}`);
  let library: ReturnType<Koffi['load']>;
  try {
    library = koffi.load(name);
  } catch (error) {
    throw new StowageError('tool-missing', `${name}: not found on this host`, { cause: error });
  }
  const plain = (arg: Argument): unknown =>
    typeof arg === 'object' && arg !== null && 'address' in arg ? arg.address : arg;
  return {
    sync: (prototype) => {
      const call = library.func(prototype);
      return (...args) => call(...args.map(plain));
    },
    async: (prototype) => {
      const call = library.func(prototype);
      const run = (args: Argument[]): Promise<Result> => {
        const { promise, resolve, reject } = Promise.withResolvers<Result>();
        inUse.add(args);
        call.async(...args.map(plain), (error: unknown, result: Result) =>
          error ? reject(error) : resolve(result),
        );
        return promise.finally(() => inUse.delete(args));
      };
      return (...args) => callLimit(() => run(args));
    },
  };
}

/** errno of the last synchronous call that failed. */
export const errno = (): number => koffi?.errno() ?? 0;

/** Writes where `target` lies into `holder`, and keeps it there for as long as `holder` is kept. */
export function writeAddress(holder: Buffer, offset: number, target: Buffer): void {
  holder.writeBigUInt64LE(koffi?.address(target) ?? 0n, offset);
  targets.set(holder, [...(targets.get(holder) ?? []), target]);
}

/** A copy of what lies at an address. */
export function bytesAt(address: Address, length: number): Buffer {
  if (length === 0) return Buffer.alloc(0);
  return Buffer.from(koffi?.decode(address, 'uint8_t', length) as Uint8Array);
}

/** The text at an address that a buffer holds at an offset. */
export function textAt(buffer: Buffer, offset: number): string {
  return String(koffi?.decode(buffer.subarray(offset, offset + 8), 'char *') ?? '');
}

/** Lets C call `work` for as long as the process lives, on whatever thread; it runs on this one. */
export function callback(prototype: string, work: (...args: never[]) => number): Callback {
  if (!koffi) throw new StowageError('tool-missing', `no C library can be called: ${reason}`);
  return { address: koffi.register(work, koffi.pointer(koffi.proto(prototype))) };
}
