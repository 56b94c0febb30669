import { randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { type PoolDefinition, poolDefinitionSchema } from '../shared/conf/pool.ts';
import { StowageError } from '../shared/util/errors.ts';
import { removeIfExists, replaceFile, syncDirectory } from './host/files.ts';
import { StateFile } from './host/state-file.ts';

const poolStateSchema = z.object({ definition: poolDefinitionSchema, active: z.boolean() });
export type StoredPool = z.infer<typeof poolStateSchema>;

/** What the agent must know after a restart: who it is, its pools, the highest fencing token of each volume. */
export class AgentState {
  readonly directory: string;
  readonly agentId: string;
  readonly #fences: Map<string, number>;
  readonly #fenceFile: StateFile;

  private constructor(directory: string, agentId: string, fences: Map<string, number>) {
    this.directory = directory;
    this.agentId = agentId;
    this.#fences = fences;
    this.#fenceFile = new StateFile(join(directory, 'fences.json'), () =>
      JSON.stringify(Object.fromEntries(this.#fences)),
    );
  }

  static async open(directory: string): Promise<AgentState> {
    await mkdir(join(directory, 'pools'), { recursive: true, mode: 0o700 });
    const read = (name: string): Promise<string | undefined> =>
      readFile(join(directory, name), 'utf8').catch(() => undefined);
    let agentId = (await read('agent-id'))?.trim();
    if (!agentId) {
      agentId = randomUUID();
      await replaceFile(join(directory, 'agent-id'), `${agentId}\n`);
    }
    const fences = z.record(z.string(), z.number()).parse(JSON.parse((await read('fences.json')) ?? '{}'));
    return new AgentState(directory, agentId, new Map(Object.entries(fences)));
  }

  async pools(): Promise<StoredPool[]> {
    const files = (await readdir(join(this.directory, 'pools')))
      .filter((file) => file.endsWith('.json'))
      .sort();
    return Promise.all(
      files.map(async (file) =>
        poolStateSchema.parse(JSON.parse(await readFile(join(this.directory, 'pools', file), 'utf8'))),
      ),
    );
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

  /**
   * Lets the holder of lease token `token` change `volume` (`pool/name`), and nobody with a lower one from now on.
   * Throws `fence-stale`. Durable before it returns.
   */
  async fence(volume: string, token: number): Promise<void> {
    const highest = this.#fences.get(volume) ?? 0;
    if (token < highest) {
      throw new StowageError(
        'fence-stale',
        `the lease of ${volume} with token ${token} has ended: token ${highest} was seen since`,
      );
    }
    if (token === highest) return;
    this.#fences.set(volume, token);
    await this.#fenceFile.save();
  }
}
