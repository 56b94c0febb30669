import { randomUUID } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { dirBackend } from '../../agent/backends/dir/index.ts';
import { OpenPool } from '../../agent/pools/open-pool.ts';
import { poolDefinitionSchema } from '../../shared/conf/pool.ts';

/** A started pool of type `dir` in this process, stopped when the scope ends. Beside `path` it keeps its state. */
export async function openDirPool(path: string): Promise<AsyncDisposable & { pool: OpenPool }> {
  const definition = poolDefinitionSchema.parse({
    name: 'p',
    uuid: randomUUID(),
    type: 'dir',
    target: { path },
  });
  const state = `${path}-state`;
  for (const directory of [path, state]) mkdirSync(directory, { recursive: true });
  const pool = new OpenPool(
    dirBackend.open(definition, {
      agentId: 'agent',
      stateDirectory: async () => state,
      imageDirectories: () => [],
      secret: () => '',
      ownsStorage: true,
      alone: <T>(work: () => Promise<T>) => work(),
    }),
  );
  await pool.start();
  return { pool, [Symbol.asyncDispose]: () => pool.stop() };
}
