import { Socket } from 'node:net';
import { chunkBuffers } from '../../shared/transfer/chunk-buffers.ts';
import { CHUNK_BYTES } from '../../shared/transfer/chunks.ts';
import type { SourceExtent } from '../../shared/transfer/source.ts';
import { isStowageError, StowageError } from '../../shared/util/errors.ts';
import { loadBackends } from '../backends/registry.ts';
import { BYTES_FD } from '../host/own-process.ts';
import type { Image } from '../images/image.ts';
import { managersLock } from '../proxmox/storage-lock.ts';
import { AgentState } from '../state.ts';
import { ByteChannel } from './byte-channel.ts';
import { givenSecret } from './given-secret.ts';
import { OpenPool } from './open-pool.ts';
import type { OpenedStage, OpenedVolume } from './operations.ts';
import {
  type FromWorker,
  PLAIN_METHODS,
  type RemoteError,
  type RemoteHandle,
  type ToWorker,
  type WorkerSettings,
} from './remote-protocol.ts';

type Callable = Record<string, (...args: unknown[]) => unknown>;

function describe(error: unknown): RemoteError {
  const { name = 'Error', message = String(error), code } = error as Partial<NodeJS.ErrnoException>;
  return { name, message, code, stowage: isStowageError(error) };
}

/** What the agent can call in this process, by number. Bytes come and go by a stream of their own, with the number of the call. */
class Objects {
  readonly #bytes: ByteChannel;
  readonly #objects = new Map<number, Callable>();
  #last = 0;

  constructor(bytes: ByteChannel) {
    this.#bytes = bytes;
  }

  add(object: object, facts: Record<string, unknown> = {}, number = ++this.#last): RemoteHandle {
    this.#objects.set(number, object as Callable);
    return { handle: number, facts };
  }

  get(number: number): Callable {
    const object = this.#objects.get(number);
    if (!object) throw new StowageError('internal', 'it was closed before');
    return object;
  }

  delete(number: number): void {
    this.#objects.delete(number);
  }

  source(source: OpenedVolume['sources'][number] | Image): RemoteHandle {
    const resizable = 'setSize' in source && source.setSize !== undefined;
    return this.add(
      {
        async extents(from: number, to: number) {
          const all: SourceExtent[] = [];
          for await (const extent of source.extents(from, to)) all.push(extent);
          return all;
        },
        read: async (length: number, offset: number, call: number) => {
          const buffer = length === CHUNK_BYTES ? chunkBuffers.borrow() : Buffer.allocUnsafeSlow(length);
          try {
            await source.read(buffer, offset);
            await this.#bytes.send(call, buffer);
          } finally {
            if (length === CHUNK_BYTES) chunkBuffers.giveBack(buffer);
          }
        },
        ...('write' in source && {
          write: async (_length: number, offset: number, call: number) =>
            (source as Image).write(await this.#bytes.receive(call), offset),
          zero: (...args: Parameters<Image['zero']>) => (source as Image).zero(...args),
          flush: () => (source as Image).flush(),
          allocationBytes: () => (source as Image).allocationBytes(),
        }),
        ...(resizable && { setSize: (sizeBytes: number) => source.setSize?.(sizeBytes) }),
        close: () => source.close(),
      },
      {
        sizeBytes: source.sizeBytes,
        resizable,
        uninitialised: 'uninitialised' in source && source.uninitialised,
      },
    );
  }

  volume(opened: OpenedVolume): RemoteHandle {
    const sources = opened.sources.map((source) => this.source(source));
    return this.add(
      {
        checkUnchanged: () => opened.checkUnchanged(),
        close: async () => {
          for (const { handle } of sources) this.delete(handle);
          await opened[Symbol.asyncDispose]();
        },
      },
      { layout: opened.layout, sources },
    );
  }

  stage(stage: OpenedStage): RemoteHandle {
    const given: RemoteHandle[] = [];
    const give = (image: Image): RemoteHandle => {
      const handle = this.source(image);
      given.push(handle);
      return handle;
    };
    return this.add(
      {
        images: async () => (await stage.images()).map(give),
        journal: async () => give(await stage.journal()),
        seal: (...args: Parameters<OpenedStage['seal']>) => stage.seal(...args),
        publish: () => stage.publish(),
        drop: () => stage.drop(),
        close: async () => {
          for (const { handle } of given) this.delete(handle);
          await stage[Symbol.asyncDispose]();
        },
      },
      { spec: stage.spec, sealed: stage.sealed, note: stage.note, touchedAt: stage.touchedAt },
    );
  }
}

async function openPool(settings: WorkerSettings): Promise<OpenPool> {
  const { definition, agentId, stateDirectory, imageDirectories, secret } = settings;
  const backends = await loadBackends(process.env.STOWAGE_BACKEND_DIR);
  const driver = backends.get(definition.type).open(definition, {
    agentId,
    stateDirectory: () => AgentState.poolDirectory(stateDirectory, definition.uuid),
    imageDirectories: () => imageDirectories,
    secret: () => givenSecret(definition, secret),
    ownsStorage: definition.managedBy === undefined,
    alone: managersLock(definition),
  });
  return new OpenPool(driver);
}

/** The process of one pool whose storage may stop answering. It ends with the agent that started it. */
export function servePool(): void {
  const bytes = new ByteChannel(new Socket({ fd: BYTES_FD }));
  const objects = new Objects(bytes);
  const calls = new Map<number, AbortController>();
  const send = (message: FromWorker): void => void process.send?.(message);
  process.on('disconnect', () => process.exit(0));

  const open = async (settings: WorkerSettings): Promise<void> => {
    const pool = await openPool(settings);
    pool.on('change', (change) => send({ type: 'change', change }));
    pool.on('failed', (error) => send({ type: 'failed', error: describe(error) }));
    const plain = Object.fromEntries(
      PLAIN_METHODS.map((name) => [name, (pool[name] as (...args: unknown[]) => unknown).bind(pool)]),
    );
    objects.add(
      {
        ...plain,
        open: async (...args: Parameters<OpenPool['open']>) => objects.volume(await pool.open(...args)),
        stage: async (spec: Parameters<OpenPool['stage']>[0]) => objects.stage(await pool.stage(spec)),
        stages: async (id?: string) => (await pool.stages(id)).map((stage) => objects.stage(stage)),
      },
      {},
      0,
    );
  };

  const call = async (message: Extract<ToWorker, { type: 'call' }>): Promise<unknown> => {
    const { id, object, method, args, signal } = message;
    const controller = new AbortController();
    calls.set(id, controller);
    try {
      const target = objects.get(object);
      const work = target[method];
      if (typeof work !== 'function')
        throw new StowageError('not-supported', `storage pool doesn't support ${method}`);
      const given = args.map((arg) => (arg === null ? undefined : arg));
      const carriesBytes = method === 'read' || method === 'write';
      return await work.apply(target, [
        ...given,
        ...(signal ? [controller.signal] : carriesBytes ? [id] : []),
      ]);
    } finally {
      calls.delete(id);
      if (method === 'write') bytes.forget(id, true);
      if (method === 'close') objects.delete(object);
    }
  };

  process.on('message', (message: ToWorker) => {
    if (message.type === 'open')
      void open(message.settings).then(
        () => send({ type: 'opened' }),
        (error) => send({ type: 'opened', error: describe(error) }),
      );
    else if (message.type === 'abort')
      calls.get(message.id)?.abort(new StowageError('cancelled', 'the controller ended the request'));
    else
      void call(message).then(
        (value) => send({ type: 'result', id: message.id, value }),
        (error) => send({ type: 'result', id: message.id, error: describe(error) }),
      );
  });
}
