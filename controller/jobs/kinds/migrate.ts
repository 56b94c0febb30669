import { z } from 'zod';
import { volumeSchema } from '../../../shared/conf/volume.ts';
import {
  offerSchema,
  type PullRequest,
  pullProgressSchema,
  refusedSchema,
  type SendRequest,
  type TransferSpec,
} from '../../../shared/protocol/agent.ts';
import { BlockSignal } from '../../../shared/util/abort.ts';
import { clock } from '../../../shared/util/clock.ts';
import { ERRORS, type ErrorCode, isStowageError, StowageError } from '../../../shared/util/errors.ts';
import { agentVolumePath } from '../../hosts/agent-client.ts';
import { readFirstLine, readLines } from '../../hosts/answers.ts';
import type { JobContext, JobKind } from '../job.ts';
import {
  type MigrateParams,
  migrateParamsSchema,
  passphraseToRead,
  passphraseToSeal,
  place,
  refuseStranded,
  refuseUsed,
  specOf,
} from './migration-spec.ts';
import { Relay } from './relay.ts';

const TICKET_MS = 24 * 3600_000;
const SILENCE_MS = 30_000;

const committedSchema = z.object({ volume: volumeSchema });

interface Notes {
  spec: TransferSpec;
  /** Id of the source. */
  sourceId: string;
  digest: string;
  /** The state of the source that was sent: only that may be deleted. */
  etag: string;
  /** The agents cannot reach each other: the bytes pass through the controller. */
  relay: boolean;
  /** What earlier attempts gave to the network. */
  wireBytes: number;
}

type Context = JobContext<MigrateParams, Notes>;

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

async function plan(context: Context): Promise<void> {
  context.notes.spec = await specOf(context);
  context.notes.sourceId = (await context.inventory.volume(place(context.params.source))).id;
  await context.save();
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
  const { source, target, snapshot, limitBytesPerSecond } = context.params;
  const from = place(source);
  const [sender, sink] = await Promise.all([context.agent(from.host), context.agent(place(target).host)]);
  const ticket = clock.randomBytes(32).toString('base64url');
  const send: SendRequest = {
    transfer: spec!.id,
    pool: from.pool,
    volume: from.volume,
    representation: spec!.representation,
    snapshot,
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

async function commit(context: Context, again = true): Promise<void> {
  const { spec, digest, sourceId } = context.notes;
  const agent = await context.agent(place(context.params.target).host);
  const fence = await context.fence(context.params.target);
  const path = `/v1/transfers/${spec!.id}/commit`;
  try {
    const passphrase = await passphraseToSeal(context, spec!);
    const { volume } = await agent.json(committedSchema, path, {
      ...{ method: 'POST', json: { digest }, fence, passphrase, signal: context.halt, patient: true },
    });
    const { keepSource, snapshot } = context.params;
    if (keepSource && sourceId !== undefined)
      await context.inventory.noteCopy(volume.id, { sourceId, snapshot });
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
