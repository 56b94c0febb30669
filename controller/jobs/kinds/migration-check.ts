import type { TransferSpec } from '../../../shared/protocol/agent.ts';
import type { FleetPool, MigrationCheck } from '../../../shared/protocol/api.ts';
import { StowageError, toStowageError } from '../../../shared/util/errors.ts';
import { formatBytes } from '../../../shared/util/units.ts';
import type { Leases } from '../leases.ts';
import {
  type Asking,
  passphraseToSeal,
  place,
  refuseStranded,
  refuseUsed,
  specOf,
} from './migration-spec.ts';

/**
 * What a migration would meet now, on both ends, without doing anything: how the volume would travel, and everything that would refuse it.
 * `refuseTaking` throws where the source must stay. That it finds nothing is no promise: what it looks at may change, and what the target has left is told by its file system or storage.
 */
export async function checkMigration(
  asking: Asking,
  leases: Leases,
  refuseTaking: () => Promise<void>,
): Promise<MigrationCheck> {
  const { source, target, keepSource } = asking.params;
  const problems: MigrationCheck['problems'] = [];
  const tried = async <T>(check: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await check();
    } catch (error) {
      const { code, message } = toStowageError(error);
      if (!problems.some((known) => known.message === message)) problems.push({ code, message });
      return undefined;
    }
  };
  const volume = await tried(() => asking.inventory.volume(place(source)));
  if (!keepSource) await tried(refuseTaking);
  await tried(() => refuseUsed(asking));
  const spec = await tried(() => specOf(asking));
  await tried(() => checkTarget(asking, volume?.allocationBytes));
  for (const written of keepSource ? [target] : [source, target]) {
    const holders = await leases.holders(written);
    if (holders.length > 0)
      problems.push({ code: 'volume-in-use', message: `'${written}' is held by ${holders.join(', ')}` });
  }
  if (spec) {
    await tried(() => checkSecrets(asking, spec));
    await tried(() => checkStage(asking, spec));
  }
  return {
    problems,
    ...(spec && { format: spec.format, as: spec.representation, capacityBytes: spec.capacityBytes }),
    mostBytes: volume?.allocationBytes ?? 0,
  };
}

async function checkSecrets(asking: Asking, spec: TransferSpec): Promise<void> {
  await passphraseToSeal(asking, spec);
  await refuseStranded(asking, spec);
}

/** What the host of the target would refuse before the first byte. */
async function checkStage({ agent, params, signal }: Asking, spec: TransferSpec): Promise<void> {
  const target = await agent(place(params.target).host);
  await target.send('/v1/transfers/check', { method: 'POST', json: spec, signal });
}

async function checkTarget({ agent, inventory, params }: Asking, bytes = 0): Promise<void> {
  const { host, pool, volume } = place(params.target);
  const found: FleetPool = await inventory.pool(host, pool);
  await agent(host);
  if (found.state !== 'running')
    throw new StowageError('pool-inactive', `pool '${host}/${pool}' is ${found.state}`);
  const there = await inventory.volumes({ host, pool, name: volume, limit: 1 });
  if (there.length > 0 && !params.refresh)
    throw new StowageError('volume-exists', `there is a volume '${params.target}' already`);
  if (there.length === 0 && bytes > found.availableBytes)
    throw new StowageError(
      'no-space',
      `'${params.source}' takes ${formatBytes(bytes)}, and '${host}/${pool}' has ${formatBytes(found.availableBytes)} left`,
    );
}
