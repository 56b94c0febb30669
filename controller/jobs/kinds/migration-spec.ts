import { z } from 'zod';
import {
  type Representation,
  type Volume,
  volumeFormatSchema,
  volumeSchema,
} from '../../../shared/conf/volume.ts';
import {
  type Layout,
  layoutSchema,
  snapshotIdSchema,
  type TransferSpec,
} from '../../../shared/protocol/agent.ts';
import { readingQuery } from '../../../shared/protocol/reading.ts';
import { DIGEST_ALGORITHMS } from '../../../shared/transfer/digest.ts';
import { clock } from '../../../shared/util/clock.ts';
import { isStowageError, StowageError } from '../../../shared/util/errors.ts';
import { splitReference } from '../../../shared/util/references.ts';
import { agentVolumePath } from '../../hosts/agent-client.ts';
import type { Inventory } from '../../inventory/inventory.ts';
import { encryptionFor } from '../../secrets/passphrases.ts';
import type { JobContext } from '../job.ts';

export const migrateParamsSchema = z.object({
  /** `host/pool/volume`. */
  source: z.string(),
  target: z.string(),
  keepSource: z.boolean().default(false),
  /** The source as it was at this snapshot; only with `keepSource`. */
  snapshot: snapshotIdSchema.optional(),
  /** What the target holds now is brought up to date, and only what differs travels; only with `keepSource`. */
  refresh: z.boolean().default(false),
  /** With `refresh`: also where what the target holds is not known as a copy of the source. */
  replace: z.boolean().default(false),
  /** Move the volume although domains use it, which then have to be pointed at the new one. */
  allowUsed: z.boolean().default(false),
  /** Move the volume although it has snapshots that do not travel: they go with the source. */
  deleteSnapshots: z.boolean().default(false),
  /** Format at the target; the source's own when absent. */
  format: volumeFormatSchema.optional(),
  /** Id of the secret that the target is encrypted with. */
  secret: z.guid().optional(),
  limitBytesPerSecond: z.number().positive().optional(),
  /** How the chunks are digested on their way. */
  digest: z.enum(DIGEST_ALGORITHMS).default('gmac'),
  /** Of a base, which the copy is to be too: by this id of the transfer the copy is known again. */
  baseTransfer: z.uuid().optional(),
});
export type MigrateParams = z.infer<typeof migrateParamsSchema>;

/** What is needed to find out how a volume would move. */
export type Asking = Pick<
  JobContext<MigrateParams, unknown>,
  'params' | 'agent' | 'inventory' | 'passphrases' | 'signal'
>;

/** What a refresh is asked to bring up to date, and from what. */
interface RefreshAsked {
  inventory: Inventory;
  params: Pick<MigrateParams, 'source' | 'target' | 'replace'>;
}

export const place = (reference: string): { host: string; pool: string; volume: string } => {
  const [host = '', pool = '', volume = ''] = splitReference(reference);
  return { host, pool, volume };
};

/** Whether some other volume has the id that the source says its volume has: that one keeps it, and the moved one gets its own. */
export async function isTaken(
  { inventory, params }: { inventory: Inventory; params: { source: string; target: string } },
  id: string,
): Promise<boolean> {
  const owners = await inventory.withId(id, 3);
  return owners.some(({ host, pool, name }) => {
    const owner = `${host}/${pool}/${name}`;
    return owner !== params.source && owner !== params.target;
  });
}

/**
 * What a transfer carries, as things are now. Throws what keeps the source from being read so, and `volume-has-snapshots` where a move would
 * lose snapshots.
 */
export async function specOf(context: Asking): Promise<TransferSpec> {
  const { source, target, keepSource, snapshot, allowUsed, baseTransfer } = context.params;
  const from = place(source);
  const to = place(target);
  const agent = await context.agent(from.host);
  const before = await replaced(context);
  if (before) await refuseStranger(context, before);
  // Of one that cannot be read nothing is known.
  const format = context.params.format ?? (before?.format === 'unknown' ? undefined : before?.format);
  const layoutAs = async (as: Representation): Promise<Layout> => {
    const path = `${agentVolumePath(from)}/layout?${readingQuery({ as, snapshot })}`;
    const passphrase = await passphraseToRead(context, source, as);
    return agent.json(layoutSchema, path, { signal: context.signal, passphrase, patient: true });
  };
  // A snapshot has no image of its own.
  let layout = await layoutAs(snapshot === undefined ? 'image' : 'content');
  const { secret } = context.params;
  const isSameFormat = format === undefined || format === layout.format;
  // A snapshot is opened to be read: in its own format it is encrypted again, with its own key where nobody names another.
  const keepsKey = snapshot !== undefined && isSameFormat && before?.encryption === undefined;
  // Encrypted anew, or as what it replaces is; what stays as it is keeps its key.
  const wanted = encryptionFor(format ?? layout.format, secret, keepsKey ? layout : before);
  // An image that stands on another one would be of no use alone.
  const isSame = snapshot === undefined && !layout.isOverlay && isSameFormat;
  const isSameKey = wanted === undefined || (layout.encryption && wanted.secret === layout.encryption.secret);
  const representation = isSame && isSameKey ? 'image' : 'content';
  if (representation === 'content' && snapshot === undefined) layout = await layoutAs('content');
  refuseLoss(context, layout);
  return {
    id: baseTransfer ?? clock.uuid(),
    pool: to.pool,
    volume: to.volume,
    volumeId: keepSource || (await isTaken(context, layout.volumeId)) ? undefined : layout.volumeId,
    format: format ?? layout.format,
    representation,
    encryption: representation === 'image' ? layout.encryption : wanted,
    notes: keepSource ? undefined : layout.notes,
    isBase: keepSource ? baseTransfer !== undefined || undefined : layout.isBase,
    parts: layout.parts,
    capacityBytes: layout.capacityBytes,
    replace: before !== undefined,
    refresh: before !== undefined,
    allowUsed: before !== undefined && allowUsed,
    digest: context.params.digest,
  };
}

/** Throws `volume-has-snapshots` where a move would lose snapshots, unless that was asked for. */
function refuseLoss({ params }: Asking, { snapshotsLeft = 0 }: Layout): void {
  if (params.keepSource || params.deleteSnapshots || snapshotsLeft === 0) return;
  throw new StowageError(
    'volume-has-snapshots',
    `'${params.source}' has ${snapshotsLeft} snapshots, which stay behind and would be deleted with it: copy it, or say that they may go`,
  );
}

/** What a volume is opened with, when it is to be read so. */
export async function passphraseToRead(
  context: Asking,
  volume: string,
  as: Representation,
): Promise<string | undefined> {
  return as === 'content' ? context.passphrases.of(volume) : undefined;
}

/** The volume that a refresh brings up to date; undefined where it is the first copy. */
async function replaced({ agent, params }: Asking): Promise<Volume | undefined> {
  if (!params.refresh) return undefined;
  const to = place(params.target);
  const sink = await agent(to.host);
  return sink.json(volumeSchema, agentVolumePath(to)).catch((error) => {
    if (!isStowageError(error, 'volume-not-found')) throw error;
    return undefined;
  });
}

/** Throws `volume-exists` where a refresh would replace what is not known as a copy of the source, unless that was asked for. */
export async function refuseStranger(
  { inventory, params: { source, target, replace } }: RefreshAsked,
  there: Pick<Volume, 'id'>,
): Promise<void> {
  if (replace) return;
  const [{ id }, copy] = await Promise.all([inventory.volume(place(source)), inventory.copyOf(there.id)]);
  if (copy?.sourceId === id) return;
  throw new StowageError(
    'volume-exists',
    `'${target}' is there already, and is not known as a copy of '${source}'; --yes replaces it`,
  );
}

/** What a domain uses does not move away from under it, and what is mapped as a block device does not at all. */
export async function refuseUsed(
  context: Pick<Asking, 'agent' | 'signal'> & {
    params: Pick<MigrateParams, 'source' | 'keepSource' | 'allowUsed'>;
  },
): Promise<void> {
  const { source, keepSource, allowUsed } = context.params;
  if (keepSource) return;
  const from = place(source);
  const agent = await context.agent(from.host);
  const query = new URLSearchParams({ refuseMapped: 'true', allowUsed: String(allowUsed) });
  const path = `${agentVolumePath(from)}/refuse-used?${query}`;
  await agent.send(path, { method: 'POST', signal: context.signal });
}

/** Throws `forbidden` for a volume that would go, with its key, to where its secret is not for: nobody could open it any more. */
export async function refuseStranded({ passphrases, params }: Asking, spec: TransferSpec): Promise<void> {
  if (params.keepSource || spec.representation === 'content' || spec.encryption?.secret === undefined) return;
  await passphrases.toMake(spec.encryption, params.target).catch((error) => {
    // Whose secret is kept elsewhere is opened elsewhere.
    if (!isStowageError(error, 'secret-not-found')) throw error;
  });
}

/** What content is encrypted with at the target. */
export async function passphraseToSeal(context: Asking, spec: TransferSpec): Promise<string | undefined> {
  if (spec.representation === 'image') return undefined;
  return context.passphrases.toMake(spec.encryption, context.params.target);
}
