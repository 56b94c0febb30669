import { z } from 'zod';
import type { Representation, Volume } from '../../shared/conf/volume.ts';
import type { FleetVolume } from '../../shared/protocol/api.ts';
import { volumeUserSchema } from '../../shared/protocol/domains.ts';
import type { Reading } from '../../shared/protocol/reading.ts';
import { includesRole } from '../../shared/protocol/rights.ts';
import { isStowageError, StowageError } from '../../shared/util/errors.ts';
import type { Principal } from '../auth/principal.ts';
import { type AgentClient, type AgentRequest, agentVolumePath } from '../hosts/agent-client.ts';
import type { Services } from './action.ts';
import type { volumeAddress } from './addresses.ts';

export type VolumeAddress = z.infer<typeof volumeAddress>;

/** So many linked clones are named where they are in the way. */
const MOST_NAMED = 20;

/** Go ahead although domains use the volume; their names are put on record. */
export const allowUsedField = { allowUsed: z.boolean().default(false) };

export const referenceOf = ({ host, pool, volume }: VolumeAddress): string => `${host}/${pool}/${volume}`;

/** The parts of a detail that there are. */
export const listed = (...parts: string[]): string => parts.filter((part) => part !== '').join(', ');

/** How a reading is put on record. */
export const readingWords = ({ as, snapshot }: Reading): string =>
  listed(as, snapshot === undefined ? '' : `at the snapshot ${snapshot}`);

/** The inventory shows a change as soon as its caller hears of it, not only when the agent's event comes. */
export async function shown(
  { inventory }: Services,
  { host, pool }: { host: string; pool: string },
  volume: Volume,
): Promise<FleetVolume> {
  await inventory.shows({ host, pool, volume: volume.name }, volume);
  return { host, pool, ...volume };
}

/** What the inventory knows of a volume, which need not be there. */
export async function volumeIfKnown(
  { inventory }: Services,
  address: VolumeAddress,
): Promise<FleetVolume | undefined> {
  return inventory.volume(address).catch((error) => {
    if (!isStowageError(error, 'volume-not-found')) throw error;
    return undefined;
  });
}

/** What lets a request change a volume: the token of its lease, and which volume it was meant for. */
type Right = Pick<AgentRequest, 'fence' | 'volumeId'>;

/**
 * Runs a short change of a volume under a lease of its own, held until the agent has answered. Throws `volume-in-use`, and
 * `volume-changed` where another volume has the name than the inventory knows under the lease.
 */
export async function changeVolume<T>(
  services: Services,
  address: VolumeAddress,
  holder: string,
  work: (agent: AgentClient, right: Right) => Promise<T>,
): Promise<T> {
  const agent = await services.fleet.client(address.host);
  await using lease = await services.leases.acquire({ volume: referenceOf(address), mode: 'write', holder });
  const known = await volumeIfKnown(services, address);
  return await work(agent, { fence: lease.token, volumeId: known?.id });
}

/**
 * Before a volume is taken from its users. Without `allowUsed` throws `volume-used` while there are any; with it gives their
 * names, in words for the record.
 */
export async function usersInTheWay(
  { fleet }: Services,
  address: VolumeAddress,
  allowUsed: boolean,
): Promise<string> {
  const agent = await fleet.client(address.host);
  if (!allowUsed) {
    await agent.send(`${agentVolumePath(address)}/refuse-used`, { method: 'POST' });
    return '';
  }
  const users = await agent.json(z.array(volumeUserSchema), `${agentVolumePath(address)}/users`);
  const names = users.map(({ domain, target }) => `${domain} (${target})`);
  return names.length > 0 ? `although used by ${names.join(', ')}` : 'although it might be used';
}

/**
 * Before a volume, or all that it holds, goes away. Throws `volume-protected`, and `volume-has-clones` for a base that linked clones stand
 * on, on whatever host.
 */
export async function refuseTaking(
  services: Services,
  address: VolumeAddress,
  principal: Principal,
): Promise<void> {
  const volume = await volumeIfKnown(services, address);
  if (volume?.isProtected)
    throw new StowageError(
      'volume-protected',
      `volume '${referenceOf(address)}' is protected: it stays until 'vol set --protected off'`,
    );
  if (volume) await refuseClones(services, volume, principal);
}

/** Throws `volume-has-clones` for a base that linked clones stand on, naming those that the caller may see. */
export async function refuseClones(
  { inventory }: Services,
  base: FleetVolume,
  { scopes }: Principal,
): Promise<void> {
  if (!base.isBase || (await inventory.clonesOf(base, 1, [])).length === 0) return;
  const visible = await inventory.clonesOf(base, MOST_NAMED + 1, scopes);
  const names = visible
    .slice(0, MOST_NAMED)
    .map((clone) => referenceOf({ host: clone.host, pool: clone.pool, volume: clone.name }));
  if (visible.length !== names.length || names.length === 0) names.push('others');
  throw new StowageError(
    'volume-has-clones',
    `linked clones stand on '${referenceOf({ ...base, volume: base.name })}': ${names.join(', ')}`,
  );
}

/** `usage`: for the record. */
export interface NamedSecret {
  id: string;
  usage: string;
}

/** With what a new volume is to be encrypted: the id, or the usage, of a secret of the kind `volume`. */
export const secretField = { secret: z.string().min(1).max(1024).optional() };

/** Which it is. Throws `secret-not-found`, and `forbidden` where it is not for the pool. */
export async function secretNamed(
  { secrets }: Services,
  named: string | undefined,
  place: { host: string; pool: string },
): Promise<NamedSecret | undefined> {
  return named === undefined ? undefined : secrets.volumeSecret(named, place);
}

/**
 * What a volume is opened with to read it so; undefined where it is not encrypted. Throws `forbidden` for who may only look: what
 * somebody encrypted is for those who work with it.
 */
export async function passphraseToRead(
  { passphrases }: Services,
  address: VolumeAddress,
  as: Representation,
  principal: Principal,
): Promise<string | undefined> {
  const passphrase = as === 'content' ? await passphrases.of(referenceOf(address)) : undefined;
  if (passphrase !== undefined && !includesRole(principal.role, 'operator'))
    throw new StowageError(
      'forbidden',
      `what the encrypted volume ${referenceOf(address)} holds is for operators; as image it comes as it is stored`,
    );
  return passphrase;
}
