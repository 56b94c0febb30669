import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { TransferSpec } from '../../../shared/protocol/agent.ts';
import { exists } from '../../host/files.ts';
import { DirSink, type SinkHooks } from './sink.ts';

/** The transfers of one pool, each in a directory of its own, and each open at most once. */
export class DirSinks {
  readonly #directory: string;
  readonly #hooks: SinkHooks;
  /** Transfers that are open, or being opened: two openings of one would write over each other. */
  readonly #open = new Map<string, Promise<DirSink | undefined>>();

  constructor(directory: string, publish: SinkHooks['publish']) {
    this.#directory = directory;
    this.#hooks = { publish, ended: (id) => this.#open.delete(id) };
  }

  #path(transferId: string): string {
    return join(this.#directory, transferId);
  }

  /** What was on its way to its name arrives; what never had a state is nobody's. */
  async finishInterrupted(): Promise<void> {
    for (const name of await readdir(this.#directory).catch(() => [])) {
      if (!(await exists(join(this.#path(name), 'state.json'))))
        await rm(this.#path(name), { recursive: true, force: true });
    }
    for (const sink of await this.list()) {
      // A volume that cannot be put in place keeps its transfer, and the pool starts all the same.
      if (sink.publishing) await sink.commit(undefined).catch(() => undefined);
    }
  }

  /** The transfer that was begun before, or a new one once `admit` has let it in. */
  async begin(spec: TransferSpec, admit: () => Promise<void>): Promise<DirSink> {
    const sink = await this.#openOnce(spec.id, async () => {
      const begun = await DirSink.resume(this.#path(spec.id), this.#hooks);
      if (begun) return begun;
      await admit();
      return await DirSink.begin(this.#path(spec.id), spec, this.#hooks);
    });
    return sink!;
  }

  async list(): Promise<DirSink[]> {
    const sinks: DirSink[] = [];
    for (const name of await readdir(this.#directory).catch(() => [])) {
      // One that cannot be opened must not hide the others; drop removes it.
      const sink = await this.#resume(name).catch(() => undefined);
      if (sink) sinks.push(sink);
    }
    return sinks;
  }

  /** Aborts a transfer, also one that cannot be opened. */
  async drop(transferId: string): Promise<void> {
    const sink = await this.#resume(transferId).catch(() => undefined);
    if (sink) await sink.abort();
    else await rm(this.#path(transferId), { recursive: true, force: true });
  }

  /** Forgets what is open, as a pool that stops does. */
  clear(): void {
    this.#open.clear();
  }

  #resume(transferId: string): Promise<DirSink | undefined> {
    return this.#openOnce(transferId, () => DirSink.resume(this.#path(transferId), this.#hooks));
  }

  /** Opens a transfer once, however many ask at the same time. */
  #openOnce(id: string, open: () => Promise<DirSink | undefined>): Promise<DirSink | undefined> {
    let opening = this.#open.get(id);
    if (!opening) {
      opening = open().then(
        (sink) => {
          if (!sink) this.#open.delete(id);
          return sink;
        },
        (error) => {
          this.#open.delete(id);
          throw error;
        },
      );
      this.#open.set(id, opening);
    }
    return opening;
  }
}
