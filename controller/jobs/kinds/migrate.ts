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
  offerSchema,
  type PullRequest,
  pullProgressSchema,
  refusedSchema,
  type SendRequest,
  type TransferSpec,
} from '../../../shared/protocol/agent.ts';
import { DIGEST_ALGORITHMS } from '../../../shared/transfer/digest.ts';
import { BlockSignal } from '../../../shared/util/abort.ts';
import { clock } from '../../../shared/util/clock.ts';
import { ERRORS, type ErrorCode, isStowageError, StowageError } from '../../../shared/util/errors.ts';
import { splitReference } from '../../../shared/util/names.ts';
import { agentVolumePath } from '../../hosts/agent-client.ts';
import { readFirstLine, readLines } from '../../hosts/answers.ts';
import { encryptionFor } from '../../secrets/passphrases.ts';
import type { JobContext, JobKind } from '../job.ts';
import { Relay } from './relay.ts';

const TICKET_MS = 24 * 3600_000;
const SILENCE_MS = 30_000;

export const migrateParamsSchema = z.object({
  /** `host/pool/volume`. */
  source: z.string(),
  target: z.string(),
  keepSource: z.boolean().default(false),
  /** What the target holds now is brought up to date, and only what differs travels; only with `keepSource`. */
  refresh: z.boolean().default(false),
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
});
export type MigrateParams = z.infer<typeof migrateParamsSchema>;

interface Notes {
  spec: TransferSpec;
  digest: string;
  /** The state of the source that was sent: only that may be deleted. */
  etag: string;
  /** The agents cannot reach each other: the bytes pass through the controller. */
  relay: boolean;
  /** What earlier attempts gave to the network. */
  wireBytes: number;
}

type Context = JobContext<MigrateParams, Notes>;

const place = (reference: string): { host: string; pool: string; volume: string } => {
  const [host = '', pool = '', volume = ''] = splitReference(reference);
  return { host, pool, volume };
};

/** Whether some other volume has the id that the source says its volume has: that one keeps it, and the moved one gets its own. */
async function isTaken({ inventory, params }: Context, id: string): Promise<boolean> {
  const owners = await inventory.withId(id, 3);
  return owners.some(({ host, pool, name }) => {
    const owner = `${host}/${pool}/${name}`;
    return owner !== params.source && owner !== params.target;
  });
}

async function plan(context: Context): Promise<void> {
  const { source, target, keepSource, allowUsed } = context.params;
  const from = place(source);
  const to = place(target);
  const agent = await context.agent(from.host);
  const before = await replaced(context);
  // Of one that cannot be read nothing is known.
  const format = context.params.format ?? (before?.format === 'unknown' ? undefined : before?.format);
  const layoutAs = async (as: Representation): Promise<Layout> => {
    const path = `${agentVolumePath(from)}/layout?as=${as}`;
    const passphrase = await passphraseToRead(context, source, as);
    return agent.json(layoutSchema, path, { signal: context.signal, passphrase, patient: true });
  };
  let layout = await layoutAs('image');
  const { secret } = context.params;
  // Encrypted anew, or as what it replaces is; what stays as it is keeps its key.
  const wanted = encryptionFor(format ?? layout.format, secret, before);
  // An image that stands on another one would be of no use alone.
  const isSame = !layout.isOverlay && (format === undefined || format === layout.format);
  const isSameKey = wanted === undefined || (layout.encryption && wanted.secret === layout.encryption.secret);
  const representation = isSame && isSameKey ? 'image' : 'content';
  if (representation === 'content') layout = await layoutAs('content');
  refuseLoss(context, layout);
  context.notes.spec = {
    id: clock.uuid(),
    pool: to.pool,
    volume: to.volume,
    volumeId: keepSource || (await isTaken(context, layout.volumeId)) ? undefined : layout.volumeId,
    format: format ?? layout.format,
    representation,
    encryption: representation === 'image' ? layout.encryption : wanted,
    notes: keepSource ? undefined : layout.notes,
    isBase: keepSource ? undefined : layout.isBase,
    parts: layout.parts,
    capacityBytes: layout.capacityBytes,
    replace: before !== undefined,
    refresh: before !== undefined,
    allowUsed: before !== undefined && allowUsed,
    digest: context.params.digest,
  };
  await context.save();
}

/** Throws `volume-has-snapshots` where a move would lose snapshots, unless that was asked for. */
function refuseLoss({ params }: Context, { snapshotsLeft = 0 }: Layout): void {
  if (params.keepSource || params.deleteSnapshots || snapshotsLeft === 0) return;
  throw new StowageError(
    'volume-has-snapshots',
    `'${params.source}' has ${snapshotsLeft} snapshots, which stay behind and would be deleted with it: copy it, or say that they may go`,
  );
}

/** What a volume is opened with, when it is to be read so. */
async function passphraseToRead(
  context: Context,
  volume: string,
  as: Representation,
): Promise<string | undefined> {
  return as === 'content' ? context.passphrases.of(volume) : undefined;
}

/** The volume that a refresh brings up to date; undefined where it is the first copy. */
async function replaced({ agent, params }: Context): Promise<Volume | undefined> {
  if (!params.refresh) return undefined;
  const to = place(params.target);
  const sink = await agent(to.host);
  return sink.json(volumeSchema, agentVolumePath(to)).catch((error) => {
    if (!isStowageError(error, 'volume-not-found')) throw error;
    return undefined;
  });
}

/** What keeps a volume from being read: what cannot be compared is fetched as everything else is. */
const UNREADABLE = [
  'volume-damaged',
  'volume-not-found',
  'invalid-image',
  'not-supported',
  'secret-missing',
  'secret-refused',
  'secret-not-found',
  'forbidden',
] as const satisfies ErrorCode[];

/** Lets the sink begin with what it has. */
async function seed(context: Context): Promise<void> {
  const { spec } = context.notes;
  if (!spec?.refresh) return;
  const { target } = context.params;
  const sink = await context.agent(place(target).host);
  try {
    const passphrase = await passphraseToRead(context, target, spec.representation);
    await sink.send(`/v1/transfers/${spec.id}/seed`, {
      method: 'POST',
      signal: context.signal,
      passphrase,
      patient: true,
    });
  } catch (error) {
    if (!isStowageError(error, ...UNREADABLE)) throw error;
  }
}

async function prepare(context: Context): Promise<void> {
  const { target } = context.params;
  // What it cannot be encrypted with, or opened there, is told before the first byte.
  await passphraseToSeal(context, context.notes.spec!);
  await refuseStranded(context, context.notes.spec!);
  const agent = await context.agent(place(target).host);
  const fence = await context.fence(target);
  await agent.send('/v1/transfers', {
    method: 'POST',
    json: context.notes.spec,
    fence,
    signal: context.signal,
  });
}

/** One attempt: the source opens its door, the sink fetches. What was received before is not fetched again. */
async function transfer(context: Context): Promise<void> {
  const { spec } = context.notes;
  const { source, target, limitBytesPerSecond } = context.params;
  const from = place(source);
  const [sender, sink] = await Promise.all([context.agent(from.host), context.agent(place(target).host)]);
  const ticket = clock.randomBytes(32).toString('base64url');
  const send: SendRequest = {
    transfer: spec!.id,
    pool: from.pool,
    volume: from.volume,
    representation: spec!.representation,
    digest: spec!.digest,
    ticket,
    expiresAt: clock.now() + TICKET_MS,
    limitBytesPerSecond,
  };
  // Ends with this attempt, and with it the door.
  using block = new BlockSignal(context.signal);
  const passphrase = await passphraseToRead(context, source, spec!.representation);
  const door = await sender.stream('/v1/sends', {
    ...{ method: 'POST', json: send, passphrase, signal: block.signal },
  });
  const line = await readFirstLine(door, (more) => {
    const { data } = refusedSchema.safeParse(more);
    if (data)
      context.claim(from.host, `${data.refused.from} was refused at its door: ${data.refused.reason}`);
  });
  const { port } = offerSchema.parse(line);
  const relay = context.notes.relay ?? false;
  using _pairs = relay ? new Relay(sender, sink, spec!.id) : undefined;
  const way: PullRequest['way'] = relay
    ? { kind: 'relay' }
    : { kind: 'dial', addresses: await context.addresses(from.host), port };
  const pull: PullRequest = { ticket, way };
  const answer = await sink.stream(`/v1/transfers/${spec!.id}/pull`, {
    method: 'POST',
    json: pull,
    signal: block.signal,
  });
  const before = context.notes.wireBytes ?? 0;
  for await (const line of readLines(answer, SILENCE_MS)) {
    const progress = pullProgressSchema.parse(line);
    context.notes.wireBytes = before + progress.wireBytes;
    if (progress.totalBytes > 0)
      context.progress(progress.doneBytes, progress.totalBytes, context.notes.wireBytes);
    if (progress.error) {
      const { code, detail } = progress.error;
      if (code === 'host-unreachable' && !relay) {
        context.notes.relay = true;
        await context.save();
        return await transfer(context);
      }
      throw new StowageError(code in ERRORS ? (code as ErrorCode) : 'internal', detail);
    }
    if (progress.digest) {
      context.notes.digest = progress.digest;
      context.notes.etag = progress.etag;
      await context.save();
      return;
    }
  }
  throw new StowageError('stream-cut', 'the sink ended its answer before the transfer was complete');
}

/** What a domain uses does not move away from under it. */
async function refuseUsed(context: Context): Promise<void> {
  const { source, keepSource, allowUsed } = context.params;
  if (keepSource || allowUsed) return;
  const from = place(source);
  const agent = await context.agent(from.host);
  await agent.send(`${agentVolumePath(from)}/refuse-used`, { method: 'POST', signal: context.signal });
}

/** Throws `forbidden` for a volume that would go, with its key, to where its secret is not for: nobody could open it any more. */
async function refuseStranded({ passphrases, params }: Context, spec: TransferSpec): Promise<void> {
  if (params.keepSource || spec.representation === 'content' || spec.encryption?.secret === undefined) return;
  await passphrases.toMake(spec.encryption, params.target).catch((error) => {
    // Whose secret is kept elsewhere is opened elsewhere.
    if (!isStowageError(error, 'secret-not-found')) throw error;
  });
}

/** What content is encrypted with at the target. */
async function passphraseToSeal(context: Context, spec: TransferSpec): Promise<string | undefined> {
  if (spec.representation === 'image') return undefined;
  return context.passphrases.toMake(spec.encryption, context.params.target);
}

async function commit(context: Context, again = true): Promise<void> {
  const { spec, digest } = context.notes;
  const agent = await context.agent(place(context.params.target).host);
  const fence = await context.fence(context.params.target);
  const path = `/v1/transfers/${spec!.id}/commit`;
  try {
    const passphrase = await passphraseToSeal(context, spec!);
    await agent.send(path, {
      ...{ method: 'POST', json: { digest }, fence, passphrase, signal: context.halt, patient: true },
    });
  } catch (error) {
    if (!again || !isStowageError(error, 'upload-offset')) throw error;
    // The sink was killed between its last answer and its last fdatasync: what it lost is sent again.
    await transfer(context);
    await commit(context, false);
  }
}

async function removeSource(context: Context): Promise<void> {
  const { source, keepSource, allowUsed } = context.params;
  if (keepSource) return;
  const from = place(source);
  const agent = await context.agent(from.host);
  // The end of the last attempt's request may still be on its way to the source, which would be in use until then.
  await agent.send(`/v1/sends/${context.notes.spec!.id}`, { method: 'DELETE' });
  const fence = await context.fence(source);
  const etag = encodeURIComponent(context.notes.etag ?? '');
  await agent
    .send(`${agentVolumePath(from)}?etag=${etag}&deleteSnapshots=true`, {
      method: 'DELETE',
      fence,
      allowUsed,
    })
    .catch((error) => {
      // Gone is what it shall be: the step was run before, and killed before it could be recorded.
      if (error.code !== 'volume-not-found') throw error;
    });
}

/**
 * Moves or copies a volume to another pool, straight from agent to agent over TLS, or through the controller where they
 * cannot reach each other. Until `commit` the source is the volume and can be gone back to; after it the target is.
 */
export const migrate: JobKind<MigrateParams, Notes> = {
  kind: 'migrate',
  params: migrateParamsSchema,
  places: ({ source, target }) => ({ source, target }),
  leases: ({ source, target, keepSource }) => [
    { volume: source, mode: keepSource ? 'read' : 'write' },
    { volume: target, mode: 'write' },
  ],
  steps: [
    { name: 'refuse-used', run: refuseUsed },
    { name: 'plan', run: plan },
    { name: 'prepare', run: prepare },
    { name: 'seed', run: seed },
    { name: 'transfer', run: transfer },
    // A domain may have been defined since. From here on the target is the volume.
    { name: 'refuse-used-again', run: refuseUsed },
    { name: 'commit', run: (context) => commit(context) },
    { name: 'remove-source', run: removeSource },
  ],
  commitStep: 'commit',
  async undo(context) {
    const { spec } = context.notes;
    if (!spec) return;
    const agent = await context.agent(place(context.params.target).host);
    await agent.send(`/v1/transfers/${spec.id}`, { method: 'DELETE' });
  },
};
