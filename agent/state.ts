import { type FileHandle, mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { type PoolDefinition, poolDefinitionSchema } from '../shared/conf/pool.ts';
import { clock, sleep } from '../shared/util/clock.ts';
import { isStowageError, StowageError, toStowageError } from '../shared/util/errors.ts';
import { exists, readIfExists, removeIfExists, replaceFile, syncDirectory } from './host/files.ts';
import { lockFile } from './host/lock.ts';
import { RecordLog } from './host/record-log.ts';

/** Longest wait for an agent that works with the same state to end, and how often it is looked at. */
const PATIENCE_MS = 5_000;
const LOOK_MS = 50;

const poolStateSchema = z.object({ definition: poolDefinitionSchema, active: z.boolean() });

/** A pool as it is on record, or the name of one whose record cannot be read, with the reason. */
export type StoredPool =
  | { definition: PoolDefinition; active: boolean }
  | { name: string; unreadable: string };

/** What the agent must know after a restart: who it is, its pools, the highest fencing token of each volume. */
export class AgentState implements AsyncDisposable {
  readonly directory: string;
  readonly agentId: string;
  /** Or why they cannot be read. */
  readonly #fences: RecordLog<number> | StowageError;

  /** Held as long as the agent lives: two agents would work on the same pools. */
  readonly #lock: FileHandle;

  private constructor(
    directory: string,
    agentId: string,
    fences: RecordLog<number> | StowageError,
    lock: FileHandle,
  ) {
    this.#lock = lock;
    this.directory = directory;
    this.agentId = agentId;
    this.#fences = fences;
  }

  /** Throws `host-in-use` while another agent works with it, or when it cannot be told who this agent is. What else cannot be read is left aside and told of where it is used. */
  static async open(directory: string, patienceMs = PATIENCE_MS): Promise<AgentState> {
    await mkdir(join(directory, 'pools'), { recursive: true, mode: 0o700 });
    const lock = await lockState(directory, patienceMs);
    let agentId = (await readIfExists(join(directory, 'agent-id')))?.trim();
    if (!agentId) {
      agentId = clock.uuid();
      await replaceFile(join(directory, 'agent-id'), `${agentId}\n`);
    }
    const fences = await openFences(directory).catch((error) => toStowageError(error));
    return new AgentState(directory, agentId, fences, lock);
  }

  async pools(): Promise<StoredPool[]> {
    const stored: StoredPool[] = [];
    for (const file of (await readdir(join(this.directory, 'pools'))).sort()) {
      if (!file.endsWith('.json')) continue;
      try {
        const text = await readFile(join(this.directory, 'pools', file), 'utf8');
        stored.push(poolStateSchema.parse(JSON.parse(text)));
      } catch (error) {
        stored.push({
          name: nameOf(file),
          unreadable: `its definition, ${join(this.directory, 'pools', file)}, cannot be read: ${reasonOf(error)}`,
        });
      }
    }
    return stored;
  }

  async savePool(definition: PoolDefinition, active: boolean): Promise<void> {
    await replaceFile(this.#poolFile(definition.name), JSON.stringify({ definition, active }, null, 2));
  }

  async removePool(name: string): Promise<void> {
    await removeIfExists(this.#poolFile(name));
    await syncDirectory(join(this.directory, 'pools'));
  }

  #poolFile(name: string): string {
    return join(this.directory, 'pools', `${encodeURIComponent(name)}.json`);
  }

  /** A directory for what one pool keeps on the host's own disk. */
  static async poolDirectory(stateDirectory: string, uuid: string): Promise<string> {
    const directory = join(stateDirectory, 'pools', uuid);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    return directory;
  }

  /**
   * Lets the holder of lease token `token` change `volume` (`pool/name`), and nobody with a lower one from now on.
   * Throws `fence-stale`, also when it cannot be told. Durable before it returns.
   */
  async fence(volume: string, token: number): Promise<void> {
    if (this.#fences instanceof StowageError)
      throw new StowageError(
        'fence-stale',
        `it cannot be told who may change ${volume}: the fences of this host cannot be read: ${this.#fences.message}`,
      );
    const highest = this.#fences.get(volume) ?? 0;
    if (token < highest) {
      throw new StowageError(
        'fence-stale',
        `the lease of ${volume} with token ${token} has ended: token ${highest} was seen since`,
      );
    }
    if (token === highest) return this.#fences.flush();
    await this.#fences.set(volume, token);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!(this.#fences instanceof StowageError)) await this.#fences[Symbol.asyncDispose]();
    await this.#lock.close();
  }
}

/** An agent that is being replaced by this one may take a moment to end. */
async function lockState(directory: string, patienceMs: number): Promise<FileHandle> {
  const deadline = clock.monotonicMs() + patienceMs;
  for (;;) {
    try {
      return await lockFile(join(directory, 'lock'), '');
    } catch (error) {
      if (!isStowageError(error, 'volume-in-use')) throw error;
      if (clock.monotonicMs() > deadline)
        throw new StowageError('host-in-use', `another agent works with ${directory}`);
      await sleep(LOOK_MS);
    }
  }
}

async function openFences(directory: string): Promise<RecordLog<number>> {
  const log = await RecordLog.open(join(directory, 'fences.log'), z.number());
  // Of version 0.1.0.
  const old = join(directory, 'fences.json');
  if (await exists(old)) {
    const fences = z.record(z.string(), z.number()).parse(JSON.parse(await readFile(old, 'utf8')));
    for (const [volume, token] of Object.entries(fences))
      if (token > (log.get(volume) ?? 0)) void log.set(volume, token);
    await log.flush();
    await removeIfExists(old);
  }
  return log;
}

function nameOf(file: string): string {
  const name = file.slice(0, -'.json'.length);
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof z.ZodError) return z.prettifyError(error).slice(0, 300);
  return error instanceof Error ? error.message : String(error);
}
