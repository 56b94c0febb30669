import pg from 'pg';
import { sleep } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { isPostgresUrl } from './location.ts';

/** Any number that nothing else in the database takes a lock by. */
const CONTROLLER_LOCK = 7_070_002;
/** After a cut the server may need as long to notice that the last one is gone. */
const AGAIN_MS = 1000;
const PATIENCE_MS = 60_000;

/**
 * Keeps a PostgreSQL store for this controller: another one on it would believe what this one has changed to be as it was. Gives
 * the function that lets go. Throws `host-in-use` when another has it. `lost` is called when it cannot be kept over a cut of the
 * connection. SQLite lies in a data directory, which is kept by itself.
 */
export async function keepStore(
  location: string,
  lost: (reason: string) => void,
): Promise<() => Promise<void>> {
  if (!isPostgresUrl(location)) return async () => undefined;
  let isOver = false;
  let client: pg.Client | undefined;
  const take = async (): Promise<boolean> => {
    const next = new pg.Client({
      connectionString: location,
      keepAlive: true,
      application_name: 'stowage-controller',
    });
    next.on('error', () => undefined);
    await next.connect();
    const { rows } = await next.query<{ taken: boolean }>('select pg_try_advisory_lock($1) as taken', [
      CONTROLLER_LOCK,
    ]);
    if (!rows[0]?.taken) {
      await next.end();
      return false;
    }
    client = next;
    next.once('end', () => void (isOver || keep()));
    return true;
  };
  const keep = async (): Promise<void> => {
    for (let waited = 0; waited < PATIENCE_MS && !isOver; waited += AGAIN_MS) {
      if (await take().catch(() => false)) return;
      await sleep(AGAIN_MS);
    }
    if (!isOver) lost('the store cannot be kept: its server is away, or another controller has it');
  };
  if (!(await take())) throw new StowageError('host-in-use', 'another controller works with this store');
  return async () => {
    isOver = true;
    await client?.end().catch(() => undefined);
  };
}
