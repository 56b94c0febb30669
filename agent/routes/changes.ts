import {
  ALLOW_USED_HEADER,
  FENCE_HEADER,
  PASSPHRASE_HEADER,
  VOLUME_ID_HEADER,
} from '../../shared/protocol/agent.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { HostAgent } from '../host-agent.ts';
import type { PoolOperations } from '../pools/operations.ts';

/** The holder of an old lease does no harm: its token is refused before anything is touched. */
export async function checkFence(
  agent: HostAgent,
  headers: Record<string, unknown>,
  pool: string,
  volume: string,
): Promise<void> {
  const token = headers[FENCE_HEADER];
  if (token === undefined) return;
  if (typeof token !== 'string' || !/^\d{1,15}$/.test(token))
    throw new StowageError('invalid-argument', `${FENCE_HEADER} must be a number`);
  await agent.state.fence(`${pool}/${volume}`, Number(token));
}

/** What the encrypted volume of a request is opened, or made, with. */
export function passphraseIn(headers: Record<string, unknown>): string | undefined {
  const value = headers[PASSPHRASE_HEADER];
  return typeof value === 'string' ? Buffer.from(value, 'base64').toString('utf8') : undefined;
}

interface VolumeRequest {
  params: { pool: string; volume: string };
  headers: Record<string, unknown>;
}

type Change = <T>(
  request: VolumeRequest,
  purpose: string,
  work: (pool: PoolOperations) => Promise<T>,
) => Promise<T>;

/** How routes change one volume. */
export function changes(agent: HostAgent): { change: Change; destroy: Change; takeAway: Change } {
  /** Runs a change of one volume: fenced, and alone on it. */
  const change: Change = async (request, purpose, work) => {
    const { pool, volume } = request.params;
    const operations = await agent.pools.operations(pool);
    await checkFence(agent, request.headers, pool, volume);
    using _writer = agent.use.write(`${pool}/${volume}`, purpose);
    const id = request.headers[VOLUME_ID_HEADER];
    if (typeof id !== 'string') return await work(operations);
    await operations.expect(volume, id);
    try {
      return await work(operations);
    } finally {
      // What was done is done, also where the process of the pool has ended meanwhile.
      await operations.expect(volume, undefined).catch(() => undefined);
    }
  };

  /** As {@link change}, for what a guest would miss: refused while a domain uses the volume, unless that is allowed. */
  const destroy: Change = (request, purpose, work) =>
    change(request, purpose, async (operations) => {
      const { pool, volume } = request.params;
      if (request.headers[ALLOW_USED_HEADER] === undefined) await agent.domains.refuseUsed(pool, volume);
      return await work(operations);
    });

  /** As {@link destroy}, for what a clone in the trash would miss too, whatever is allowed. */
  const takeAway: Change = (request, purpose, work) =>
    destroy(request, purpose, async (operations) => {
      const { pool, volume } = request.params;
      await agent.pools.refuseTrashedClones(pool, volume);
      return await work(operations);
    });

  return { change, destroy, takeAway };
}
