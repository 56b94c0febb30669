import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { WipedPart } from '../../shared/conf/trash.ts';
import type { MappedVolume, Volume } from '../../shared/conf/volume.ts';
import type { Layout, TransferSpec } from '../../shared/protocol/agent.ts';
import type { SourceExtent } from '../../shared/transfer/source.ts';
import { type ErrorCode, StowageError } from '../../shared/util/errors.ts';
import type { StreamProgram } from '../backends/backend.ts';
import { BYTES_FD, startOwnProcess } from '../host/own-process.ts';
import type { Image } from '../images/image.ts';
import { ByteChannel } from './byte-channel.ts';
import type { OpenedStage, OpenedVolume, PoolChange, PoolOperations } from './operations.ts';
import type { FromWorker, RemoteError, RemoteHandle, ToWorker, WorkerSettings } from './remote-protocol.ts';

interface Call {
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

function revive({ name, message, code, stowage }: RemoteError): Error {
  if (stowage) return new StowageError(code as ErrorCode, message);
  return Object.assign(new Error(message), { name, code });
}

/** One process that works on the storage of a pool. When it ends, every call that it has not answered fails. */
class Worker {
  readonly #child: ReturnType<typeof startOwnProcess>;
  readonly #calls = new Map<number, Call>();
  readonly #bytes: ByteChannel;
  readonly opened: Promise<void>;
  /** Settles when the process has ended, which storage that does not answer may keep from happening. */
  readonly ended: Promise<void>;
  #nextId = 1;
  #failure: StowageError | undefined;

  constructor(
    settings: WorkerSettings,
    events: { change(change: PoolChange): void; failed(error: unknown): void },
  ) {
    this.#child = startOwnProcess('pool-worker');
    this.#bytes = new ByteChannel(this.#child.stdio[BYTES_FD] as Duplex);
    const opened = Promise.withResolvers<void>();
    this.opened = opened.promise;
    opened.promise.catch(() => undefined);
    const ended = Promise.withResolvers<void>();
    this.ended = ended.promise;
    const end = (reason: string): void => {
      this.fail(new StowageError('pool-inaccessible', reason));
      opened.reject(this.#failure);
      ended.resolve();
    };
    this.#child.once('error', (error) => end(`the process of the pool does not start: ${error.message}`));
    this.#child.once('exit', (code, signal) => end(`the process of the pool has ended (${signal ?? code})`));
    this.#child.on('message', (message: FromWorker) => {
      if (message.type === 'opened') message.error ? opened.reject(revive(message.error)) : opened.resolve();
      else if (message.type === 'change') events.change(message.change);
      else if (message.type === 'failed') events.failed(revive(message.error));
      else this.#answered(message);
    });
    this.#send({ type: 'open', settings });
  }

  #send(message: ToWorker): void {
    if (this.#child.connected) this.#child.send(message, () => undefined);
  }

  #answered({ id, value, error }: Extract<FromWorker, { type: 'result' }>): void {
    const call = this.#calls.get(id);
    this.#calls.delete(id);
    if (error) call?.reject(revive(error));
    else call?.resolve(value);
  }

  /** Fails all calls, and all that come. */
  fail(error: StowageError): void {
    this.#failure ??= error;
    for (const call of this.#calls.values()) call.reject(this.#failure);
    this.#calls.clear();
  }

  /** Calls what answers with bytes, and puts them into `target`. */
  async read(object: number, target: Uint8Array, offset: number): Promise<void> {
    const id = this.#nextId++;
    const bytes = this.#bytes.receive(id, target);
    bytes.catch(() => undefined);
    try {
      await this.call(object, 'read', [target.length, offset], undefined, id);
      await bytes;
    } finally {
      this.#bytes.forget(id, false);
    }
  }

  /** Calls what takes bytes. */
  async write(object: number, bytes: Uint8Array, offset: number): Promise<void> {
    const id = this.#nextId++;
    const [sent, done] = [
      this.#bytes.send(id, bytes),
      this.call(object, 'write', [bytes.length, offset], undefined, id),
    ];
    sent.catch(() => undefined);
    await done;
    await sent;
  }

  async call<T>(
    object: number,
    method: string,
    args: unknown[],
    signal?: AbortSignal,
    id = this.#nextId++,
  ): Promise<T> {
    signal?.throwIfAborted();
    if (this.#failure) throw this.#failure;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#calls.set(id, { resolve, reject });
    const abort = (): void => this.#send({ type: 'abort', id });
    signal?.addEventListener('abort', abort, { once: true });
    this.#send({
      type: 'call',
      id,
      object,
      method,
      args: args.map((arg) => arg ?? null),
      signal: signal !== undefined,
    });
    try {
      return (await promise) as T;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }

  /** Nobody waits for it any more, the agent's own end included. */
  forget(): void {
    this.#child.unref();
    this.#child.channel?.unref();
    (this.#child.stdio[BYTES_FD] as Socket | null)?.unref();
  }
}

/**
 * A pool whose storage may stop answering, worked on by a process of its own: what hangs there hangs nowhere else. The same
 * promises as {@link OpenPool}. After {@link abandon} every call fails at once; the next start makes a new process, once the
 * old one has ended.
 */
export class RemotePool
  extends EventEmitter<{ change: [PoolChange]; failed: [unknown] }>
  implements PoolOperations
{
  readonly #settings: () => WorkerSettings;
  #worker: Worker | undefined;
  /** One that was given up and that its storage has not let go. */
  #stuck: Worker | undefined;

  /** `settings` are asked for whenever a process is started. */
  constructor(settings: () => WorkerSettings) {
    super();
    this.#settings = settings;
  }

  async #running(): Promise<Worker> {
    if (this.#stuck)
      throw new StowageError(
        'pool-inaccessible',
        'its storage does not answer, and still holds an earlier request',
      );
    this.#worker ??= this.#spawn();
    const worker = this.#worker;
    await worker.opened;
    return worker;
  }

  #spawn(): Worker {
    const worker = new Worker(this.#settings(), {
      change: (change) => void this.emit('change', change),
      failed: (error) => void this.emit('failed', error),
    });
    void worker.ended.then(() => {
      if (this.#worker !== worker) return;
      this.#worker = undefined;
      this.emit('failed', new StowageError('pool-inaccessible', 'the process of the pool has ended'));
    });
    return worker;
  }

  /** Gives up on storage that does not answer: ends the process, as far as the kernel lets it end. */
  abandon(error: StowageError): void {
    const worker = this.#worker;
    this.#worker = undefined;
    if (!worker) return;
    worker.fail(error);
    worker.kill();
    worker.forget();
    this.#stuck = worker;
    void worker.ended.then(() => {
      if (this.#stuck === worker) this.#stuck = undefined;
    });
  }

  /** Ends the process; the next call makes another one. Settles when it has ended. */
  async renew(): Promise<void> {
    const worker = this.#worker;
    this.abandon(new StowageError('pool-inactive', 'the pool is being started anew'));
    await worker?.ended;
  }

  close(): void {
    this.#worker?.kill();
    this.#worker?.forget();
    this.#worker = undefined;
  }

  async #call<T>(method: keyof PoolOperations, args: unknown[], signal?: AbortSignal): Promise<T> {
    return (await this.#running()).call<T>(0, method, args, signal);
  }

  build(overwrite?: boolean) {
    return this.#call<void>('build', [overwrite]);
  }
  start() {
    return this.#call<void>('start', []);
  }
  /** Also of a pool whose process has ended: another one lets go of its storage as it should be let go of. */
  async stop(): Promise<void> {
    const worker = await this.#running();
    await worker.call(0, 'stop', []);
    if (this.#worker === worker) this.#worker = undefined;
    worker.kill();
  }
  delete() {
    return this.#call<void>('delete', []);
  }
  refresh() {
    return this.#call<void>('refresh', []);
  }
  space() {
    return this.#call<Awaited<ReturnType<PoolOperations['space']>>>('space', []);
  }
  look(name: string) {
    return this.#call<Volume>('look', [name]);
  }
  expect(...args: Parameters<PoolOperations['expect']>) {
    return this.#call<void>('expect', args);
  }
  create(...[volume, signal]: Parameters<PoolOperations['create']>) {
    return this.#call<Volume>('create', [volume], signal);
  }
  remove(...args: Parameters<PoolOperations['remove']>) {
    return this.#call<void>('remove', args);
  }
  trash(...args: Parameters<PoolOperations['trash']>) {
    return this.#call<void>('trash', args);
  }
  restore(...args: Parameters<PoolOperations['restore']>) {
    return this.#call<Volume>('restore', args);
  }
  wipeTrashed(...args: Parameters<PoolOperations['wipeTrashed']>) {
    return this.#call<WipedPart>('wipeTrashed', args);
  }
  purge(id: string) {
    return this.#call<void>('purge', [id]);
  }
  trashed() {
    return this.#call<string[]>('trashed', []);
  }
  orphans() {
    return this.#call<Awaited<ReturnType<PoolOperations['orphans']>>>('orphans', []);
  }
  resize(...[name, capacityBytes, shrink, passphrase, signal]: Parameters<PoolOperations['resize']>) {
    return this.#call<Volume>('resize', [name, capacityBytes, shrink, passphrase], signal);
  }
  clone(...[name, target, signal]: Parameters<PoolOperations['clone']>) {
    return this.#call<Volume>('clone', [name, target], signal);
  }
  cloneLinked(...[name, target, snapshot, signal]: Parameters<PoolOperations['cloneLinked']>) {
    return this.#call<Volume>('cloneLinked', [name, target, snapshot], signal);
  }
  beginSending(...args: Parameters<PoolOperations['beginSending']>) {
    return this.#call<StreamProgram>('beginSending', args);
  }
  beginReceiving(...args: Parameters<PoolOperations['beginReceiving']>) {
    return this.#call<StreamProgram>('beginReceiving', args);
  }
  endReceiving(...[id, name, stream, identity, signal]: Parameters<PoolOperations['endReceiving']>) {
    return this.#call<Volume>('endReceiving', [id, name, stream, identity], signal);
  }
  dropStream(...args: Parameters<PoolOperations['dropStream']>) {
    return this.#call<void>('dropStream', args);
  }
  setBase(...args: Parameters<PoolOperations['setBase']>) {
    return this.#call<Volume>('setBase', args);
  }
  rename(...args: Parameters<PoolOperations['rename']>) {
    return this.#call<Volume>('rename', args);
  }
  setAttributes(...args: Parameters<PoolOperations['setAttributes']>) {
    return this.#call<Volume>('setAttributes', args);
  }
  setSecret(...args: Parameters<PoolOperations['setSecret']>) {
    return this.#call<Volume>('setSecret', args);
  }
  wipe(...[name, algorithm, passphrase, signal]: Parameters<PoolOperations['wipe']>) {
    return this.#call<Volume>('wipe', [name, algorithm, passphrase], signal);
  }
  listSnapshots(name: string) {
    return this.#call<Awaited<ReturnType<PoolOperations['listSnapshots']>>>('listSnapshots', [name]);
  }
  createSnapshot(...args: Parameters<PoolOperations['createSnapshot']>) {
    return this.#call<string>('createSnapshot', args);
  }
  renameSnapshot(...args: Parameters<PoolOperations['renameSnapshot']>) {
    return this.#call<void>('renameSnapshot', args);
  }
  switchSnapshot(...args: Parameters<PoolOperations['switchSnapshot']>) {
    return this.#call<void>('switchSnapshot', args);
  }
  deleteSnapshot(...[name, id, signal]: Parameters<PoolOperations['deleteSnapshot']>) {
    return this.#call<void>('deleteSnapshot', [name, id], signal);
  }
  check(...[name, repair, signal]: Parameters<PoolOperations['check']>) {
    return this.#call<Awaited<ReturnType<PoolOperations['check']>>>('check', [name, repair], signal);
  }
  map(name: string) {
    return this.#call<MappedVolume>('map', [name]);
  }
  unmap(name: string) {
    return this.#call<string[]>('unmap', [name]);
  }
  mappedAs(name: string) {
    return this.#call<string | undefined>('mappedAs', [name]);
  }

  refuseMapped(name: string) {
    return this.#call<void>('refuseMapped', [name]);
  }
  committed(transfer: string) {
    return this.#call<Volume | undefined>('committed', [transfer]);
  }
  refuseStage(spec: TransferSpec) {
    return this.#call<void>('refuseStage', [spec]);
  }
  dropStage(id: string) {
    return this.#call<void>('dropStage', [id]);
  }

  async open(...[name, opening, signal]: Parameters<PoolOperations['open']>): Promise<OpenedVolume> {
    const worker = await this.#running();
    const { handle, facts } = await worker.call<RemoteHandle>(0, 'open', [name, opening], signal);
    const { layout, sources } = facts as { layout: Layout; sources: RemoteHandle[] };
    return {
      layout,
      sources: sources.map((source) => remoteImage(worker, source)),
      checkUnchanged: () => worker.call(handle, 'checkUnchanged', []),
      [Symbol.asyncDispose]: () => worker.call(handle, 'close', []),
    };
  }

  async stage(spec: TransferSpec): Promise<OpenedStage> {
    const worker = await this.#running();
    return remoteStage(worker, await worker.call<RemoteHandle>(0, 'stage', [spec]));
  }

  async stages(id?: string): Promise<OpenedStage[]> {
    const worker = await this.#running();
    const stages = await worker.call<RemoteHandle[]>(0, 'stages', [id]);
    return stages.map((stage) => remoteStage(worker, stage));
  }
}

function remoteStage(worker: Worker, { handle, facts }: RemoteHandle): OpenedStage {
  const { spec, sealed, note, touchedAt } = facts as unknown as Pick<
    OpenedStage,
    'spec' | 'sealed' | 'note' | 'touchedAt'
  >;
  const state = { sealed, note };
  return {
    spec,
    touchedAt,
    get sealed() {
      return state.sealed;
    },
    get note() {
      return state.note;
    },
    async images() {
      const images = await worker.call<RemoteHandle[]>(handle, 'images', []);
      return images.map((image) => remoteImage(worker, image));
    },
    async journal() {
      return remoteImage(worker, await worker.call<RemoteHandle>(handle, 'journal', []));
    },
    async seal(text, passphrase, signal) {
      await worker.call(handle, 'seal', [text, passphrase], signal ?? new AbortController().signal);
      Object.assign(state, { sealed: true, note: text });
    },
    publish: () => worker.call(handle, 'publish', []),
    drop: () => worker.call(handle, 'drop', []),
    [Symbol.asyncDispose]: () => worker.call(handle, 'close', []),
  };
}

function remoteImage(worker: Worker, { handle, facts }: RemoteHandle): Image {
  let sizeBytes = facts.sizeBytes as number;
  const close = (): Promise<void> => worker.call(handle, 'close', []);
  return {
    uninitialised: facts.uninitialised === true,
    get sizeBytes() {
      return sizeBytes;
    },
    async *extents(from, to) {
      yield* await worker.call<SourceExtent[]>(handle, 'extents', [from, to]);
    },
    read: (buffer, offset) => worker.read(handle, buffer, offset),
    async write(bytes, offset) {
      await worker.write(handle, bytes, offset);
      sizeBytes = Math.max(sizeBytes, offset + bytes.length);
    },
    zero: (offset, length, dense) => worker.call(handle, 'zero', [offset, length, dense]),
    flush: () => worker.call(handle, 'flush', []),
    allocationBytes: () => worker.call(handle, 'allocationBytes', []),
    ...(facts.resizable === true && {
      async setSize(bytes: number) {
        await worker.call(handle, 'setSize', [bytes]);
        sizeBytes = bytes;
      },
    }),
    close,
    [Symbol.asyncDispose]: close,
  };
}
