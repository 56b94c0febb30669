import { z } from 'zod';
import { DISK_FORMATS } from '../conf/image-formats.ts';
import { poolDefinitionSchema, poolSchema } from '../conf/pool.ts';
import { poolLimitsSchema } from '../conf/pool-usage.ts';
import { streamFormatSchema } from '../conf/stream.ts';
import { trashedVolumeSchema, trashIdSchema, wipedSchema } from '../conf/trash.ts';
import {
  capacitySchema,
  encryptionSchema,
  newVolumeSchema,
  representationSchema,
  volumeAttributesSchema,
  volumeFormatSchema,
  volumeSchema,
  wipeAlgorithmSchema,
} from '../conf/volume.ts';
import { DIGEST_ALGORITHMS } from '../transfer/digest.ts';
import { nameSchema } from '../util/names.ts';
import { domainKeySchema, hostDomainSchema } from './domains.ts';

/** Raised when a change would make an older peer misunderstand; peers of another number refuse each other. */
export const PROTOCOL_VERSION = 12;

/** Carries the lease's rising token; the agent refuses one lower than it has seen for the volume. */
export const FENCE_HEADER = 'stowage-fence';

/**
 * Carries the id of the volume that the request changes. An agent that was frozen with the request, and wakes when another volume has the
 * name, refuses it with `volume-changed`: tokens that were given for other hosts of the storage it has not seen.
 */
export const VOLUME_ID_HEADER = 'stowage-volume-id';

/** Present when a volume may be changed though domains use it: who asked for the change said so. */
export const ALLOW_USED_HEADER = 'stowage-allow-used';

/** Carries, base64, the passphrase of the encrypted volume that the request reads or makes. */
export const PASSPHRASE_HEADER = 'stowage-passphrase';

/** Protocol that a stream is upgraded to when it carries the opaque bytes of a relayed transfer. */
export const RELAY_UPGRADE = 'stowage-relay';

export const poolParams = z.object({ pool: nameSchema });
export const volumeParams = z.object({ pool: nameSchema, volume: nameSchema });
export const transferParams = z.object({ transfer: z.uuid() });

export const agentInfoSchema = z.object({
  protocol: z.number(),
  version: z.string(),
  /** SHA-256 of the bundle that runs, empty when it runs from sources. */
  bundle: z.string(),
  /** Random, made at first start; tells one host from another whatever their names. */
  agentId: z.uuid(),
  hostname: z.string(),
  pid: z.number(),
  /** Plug-ins that were left aside, and why. */
  refusedBackends: z.array(z.object({ file: z.string(), reason: z.string() })).default([]),
  rssBytes: z.number(),
  backends: z.array(
    z.object({
      type: z.string(),
      contract: z.number(),
      /** What can be done with its volumes, and in which state of them. */
      features: z.record(z.string(), z.array(z.string())),
      volumeFormats: z.array(z.string()),
      usable: z.boolean(),
      /** Why it cannot work here. */
      reason: z.string().optional(),
    }),
  ),
});
export type AgentInfo = z.infer<typeof agentInfoSchema>;

export const doctorFindingSchema = z.object({
  name: z.string(),
  ok: z.boolean(),
  detail: z.string(),
  /** What to do when it is not ok. */
  remedy: z.string().optional(),
});
export type DoctorFinding = z.infer<typeof doctorFindingSchema>;

/** A pool that is defined through the agent: no other configuration defines it. */
export const redefinePoolSchema = poolDefinitionSchema.omit({
  managedBy: true,
  isShared: true,
  wipesDeleted: true,
  contents: true,
});
export const definePoolSchema = redefinePoolSchema.extend({ uuid: z.guid().optional() });
export const buildPoolSchema = z.object({
  /** What to do where something is there already: `false` refuses, `true` overwrites; absent: what is safe. */
  overwrite: z.boolean().optional(),
});
/** Absent: the usual limits. */
export const poolLimitsBody = z.object({ limits: poolLimitsSchema.optional() });
/** The value of the secret that the source of a pool names. */
export const poolSecretBody = z.object({ secret: z.string().min(1).max(4096) });
export const createVolumeSchema = newVolumeSchema;
/** `etag`: delete only this state of the volume. */
export const deleteQuery = z.object({
  etag: z.string().max(200).optional(),
  /** Snapshots in the volume go with it; without this one that has some is refused. */
  deleteSnapshots: z.stringbool().default(false),
});
/** Of which guest a new disk shall be, and in which format. */
export const freeDiskQuery = z.object({
  vmid: z.coerce.number().int().min(100).max(999_999_999),
  format: z.enum([...DISK_FORMATS, 'subvol']).default('raw'),
});
/** That it is to be overwritten before it goes. */
export const wipeRequestBody = wipedSchema.pick({ limitBytesPerSecond: true });
/** Into the trash, with its snapshots. */
export const trashBody = trashedVolumeSchema
  .pick({ keepUntil: true, by: true })
  .extend({ wipe: wipeRequestBody.extend({ deleteSnapshots: z.boolean().default(false) }).optional() });
/** `unwiped`: also what is to be overwritten before, and is not. */
/** Of a look at who uses a volume before it is taken away. */
export const refuseUsedQuery = z.object({
  allowUsed: z.stringbool().default(false),
  refuseMapped: z.stringbool().default(false),
});

export const purgeQuery = z.object({ unwiped: z.stringbool().default(false) });
/** The next part of what is to be overwritten. */
export const wipePartBody = z.object({ mostBytes: z.number().int().positive() });
/** A page of what lies in a trash, behind `TRASHEDAT-ID` of the last of the page before. */
export const trashPlaceSchema = z
  .string()
  .regex(/^\d{1,16}-[0-9a-f]{12}$/, 'is TRASHEDAT-ID of the last row');
export const trashQuery = z.object({
  after: trashPlaceSchema.optional(),
  limit: z.coerce.number().int().min(1).max(1000).default(1000),
});
export const trashParams = poolParams.extend({ id: trashIdSchema });
export const restoreBody = z.object({ name: nameSchema.optional() });
export const expiredSchema = z.array(z.object({ pool: nameSchema, trashed: trashedVolumeSchema }));
export const resizeVolumeSchema = z.object({
  capacityBytes: capacitySchema,
  shrink: z.boolean().default(false),
});
export const checkVolumeSchema = z.object({ repair: z.boolean().default(false) });
export const snapshotIdSchema = z.string().min(1).max(64);
/** `linked`: it stands on its source, which is a base, or on a `snapshot` of that; else it is a full copy. */
export const cloneVolumeSchema = z.object({
  name: nameSchema,
  linked: z.boolean().default(false),
  snapshot: snapshotIdSchema.optional(),
});
/** See {@link SentStream}. */
export const sendStreamSchema = z.object({
  format: streamFormatSchema,
  snapshot: snapshotIdSchema,
  older: z.stringbool().default(false),
  base: snapshotIdSchema.optional(),
});
/** See {@link ReceivedStream}. */
export const receiveStreamSchema = z.object({
  format: streamFormatSchema,
  snapshot: snapshotIdSchema.optional(),
  deleteSnapshot: snapshotIdSchema.optional(),
  base: snapshotIdSchema.optional(),
});
/** With what is on record of it, see {@link ReceivedIdentity}. */
export const receiveStreamQuery = receiveStreamSchema.extend({
  volumeId: z.uuid().optional(),
  transfer: z.uuid().optional(),
});
export const renameVolumeSchema = z.object({ name: nameSchema });
export const baseVolumeSchema = z.object({ isBase: z.boolean() });
/** What is absent stays as it is; empty notes are none. */
export const attributesBody = volumeAttributesSchema;
/** Which secret opens a volume: its passphrase comes beside it. */
export const volumeSecretSchema = z.object({ secret: z.guid() });
export const wipeVolumeSchema = z.object({ algorithm: wipeAlgorithmSchema });
/** Absent: the host gives it one. */
export const snapshotBodySchema = z.object({ id: snapshotIdSchema.optional() });
/** Its new id. */
export const renameSnapshotSchema = z.object({ id: snapshotIdSchema });
/** `snapshot`: as the volume was at that snapshot, and only as content. */
export const representationQuery = z.object({
  as: representationSchema.default('image'),
  snapshot: snapshotIdSchema.optional(),
});
/** `etag`: only of this state, else `volume-changed`; `from`: the first chunk that is sent. */
export const extentsQuery = representationQuery.extend({
  etag: z.string().max(200).optional(),
  from: z.coerce.number().int().nonnegative().default(0),
});

/** What a transfer carries and what it becomes at its sink. */
export const transferSpecSchema = z.object({
  id: z.uuid(),
  pool: nameSchema,
  volume: nameSchema,
  /** The id that the volume shall have; a new one when absent. */
  volumeId: z.uuid().optional(),
  /** Container format of the volume at the sink. */
  format: volumeFormatSchema,
  /** What the bytes are. `content` is put into a container of `format` at the end. */
  representation: representationSchema,
  parts: z
    .array(
      z.object({
        name: z
          .string()
          .max(255)
          .regex(/^(?!\.)[^/\0]*$/),
        sizeBytes: z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER),
        dense: z.boolean(),
      }),
    )
    .min(1)
    .max(200),
  /** Capacity of the volume, where the parts do not say it. */
  capacityBytes: capacitySchema.optional(),
  /** Whether a volume of this name may be replaced at the end. */
  replace: z.boolean().default(false),
  /** Of what it becomes: content is encrypted at the end. */
  encryption: encryptionSchema.optional(),
  /** Of a new volume. */
  notes: volumeAttributesSchema.shape.notes,
  /** It becomes a base, where its pool has bases. */
  isBase: z.boolean().optional(),
  /** It begins with what that volume holds, which must stay as it is until the end: see the route `seed`. */
  refresh: z.boolean().optional(),
  /** Replace it also while domains use it: these go on with what is not there any more. */
  allowUsed: z.boolean().default(false),
  /** Nobody said which format it is: bytes that begin as another container does are refused. */
  formatAssumed: z.boolean().optional(),
  digest: z.enum(DIGEST_ALGORITHMS).default('gmac'),
});
export type TransferSpec = z.infer<typeof transferSpecSchema>;

/** What a source has to offer: the parts, in the order they travel. */
export const layoutSchema = transferSpecSchema.pick({ parts: true }).extend({
  format: volumeFormatSchema,
  capacityBytes: z.number(),
  volumeId: z.uuid(),
  etag: z.string(),
  encryption: encryptionSchema.optional(),
  notes: volumeAttributesSchema.shape.notes,
  isBase: z.boolean().optional(),
  /** Its image holds only what differs from the one that it stands on. */
  isOverlay: z.boolean().optional(),
  /** So many of its snapshots are not in what is read. */
  snapshotsLeft: z.number().int().nonnegative().optional(),
});
export type Layout = z.infer<typeof layoutSchema>;

export const transferStatusSchema = z.object({
  id: z.uuid(),
  pool: z.string(),
  volume: z.string(),
  totalBytes: z.number(),
  doneBytes: z.number(),
  /** Bytes from the start that are durable without a gap. */
  contiguousBytes: z.number(),
  complete: z.boolean(),
  /** Last change, ms since the epoch. */
  touchedAt: z.number(),
});
export type TransferStatus = z.infer<typeof transferStatusSchema>;

/** A transfer that a host holds, as a list of them tells. */
export const heldTransferSchema = transferStatusSchema.pick({ id: true, touchedAt: true });

export const commitSchema = z.object({
  /** Root digest as the source computed it; the sink's own must be the same. */
  digest: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .optional(),
});

export const volumesQuery = z.object({
  /** The volumes after this name, in bytewise order. */
  after: z.string().max(255).optional(),
  limit: z.coerce.number().int().min(1).max(10_000).default(1000),
});

/** 32 random bytes, base64url: the key that source and sink of one transfer share. */
const ticketSchema = z.string().regex(/^[\w-]{43}$/);

/** What pools of a kind can do: as far as the controller asks. */
export const poolTraitsSchema = z.object({
  features: z.record(z.string(), z.array(z.string())),
  streams: z.array(z.string()).optional(),
});

/** Opens the source's own TLS door for one transfer; it is open until this request ends. */
export const sendRequestSchema = z.object({
  transfer: z.uuid(),
  pool: nameSchema,
  volume: nameSchema,
  representation: representationSchema,
  /** As the volume was at that snapshot; only content. */
  snapshot: snapshotIdSchema.optional(),
  digest: z.enum(DIGEST_ALGORITHMS).default('gmac'),
  ticket: ticketSchema,
  /** ms since the epoch. */
  expiresAt: z.number(),
  limitBytesPerSecond: z.number().positive().optional(),
});
export type SendRequest = z.input<typeof sendRequestSchema>;

/** Where a source offers its volume: the first line of the answer to a send request. */
export const offerSchema = z.object({ port: z.number().int().min(1).max(65535) });
export type Offer = z.infer<typeof offerSchema>;

/** A further line of that answer: somebody without the ticket was at the door. */
export const refusedSchema = z.object({
  refused: z.object({ from: z.string().max(100), reason: z.string().max(200) }),
});

/** Lets a sink fetch what a source offers. */
export const pullRequestSchema = z.object({
  ticket: ticketSchema,
  /** How the two get to each other. */
  way: z.discriminatedUnion('kind', [
    /** The sink dials the source; the addresses are tried one after the other. */
    z.object({
      kind: z.literal('dial'),
      addresses: z.array(z.string().max(100)).max(64),
      port: offerSchema.shape.port,
    }),
    /** The source dials the sink, whose port is the first line of the answer. */
    z.object({ kind: z.literal('listen') }),
    /** The controller brings streams. */
    z.object({ kind: z.literal('relay') }),
  ]),
});
export type PullRequest = z.infer<typeof pullRequestSchema>;

/** A further line of that answer: a sink has fetched everything, and knows its digest. */
export const sentSchema = z.object({ sent: z.object({ digest: z.string().max(64) }) });

/** Opens a port at which a stream to this agent's HTTP server may be dialled, once, by whoever holds the ticket. */
export const doorRequestSchema = z.object({ id: z.uuid(), ticket: ticketSchema });

/** One line of the answer to a pull request. */
export const pullProgressSchema = z.object({
  doneBytes: z.number(),
  totalBytes: z.number(),
  /** Payload and frame bytes that came over the network in this run. */
  wireBytes: z.number(),
  /** Root digest of the source; on the last line. */
  digest: z.string().optional(),
  /** Which state of the source was read; on the last line. */
  etag: z.string().optional(),
  error: z.object({ code: z.string(), detail: z.string() }).optional(),
});
export type PullProgress = z.infer<typeof pullProgressSchema>;

/** Which state of a pool's volumes somebody knows. */
export const knownPoolSchema = z.object({ generation: z.uuid(), revision: z.number().int().nonnegative() });
export type KnownPool = z.infer<typeof knownPoolSchema>;

/** Which state of a host's domains somebody knows. */
const knownDomainsSchema = z.string().max(64);

/**
 * Asks for the event stream. `known` are states from before, by pool, and `domains` that of the domains: only what differs
 * from them is told.
 */
export const eventsRequestSchema = z.object({
  known: z.record(z.string(), knownPoolSchema).default({}),
  domains: knownDomainsSchema.optional(),
});
export type EventsRequest = z.input<typeof eventsRequestSchema>;

/** Volumes of one line: no line grows with a pool. */
export const MOST_VOLUMES_A_LINE = 256;

/** Domains of one line. */
export const MOST_DOMAINS_A_LINE = 64;

/** Of one host; far more than any has. */
const MOST_POOLS = 10_000;

/**
 * One line of the agent's event stream. `agent` comes first. `begin` names all pools. For each follow its `pool`, and its
 * volumes: what changed since the known state, or everything between `volumes-begin` and `volumes-end`, in pages; a volume
 * that is not between them is not there. The domains are told as volumes are, when their state is not the known one.
 * `caught-up` ends all this; from then on each change as it happens. All lines are in the order of what they tell.
 * `holds-transfers` comes once, at any time, when the host holds transfers of somebody.
 */
export const agentEventSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('agent'), info: agentInfoSchema }),
  z.object({ type: z.literal('begin'), pools: z.array(nameSchema).max(MOST_POOLS) }),
  z.object({ type: z.literal('pool'), pool: poolSchema }),
  z.object({ type: z.literal('pool-gone'), pool: nameSchema }),
  z.object({ type: z.literal('volumes-begin'), pool: nameSchema }),
  z.object({
    type: z.literal('volumes'),
    pool: nameSchema,
    volumes: z.array(volumeSchema).max(MOST_VOLUMES_A_LINE),
    gone: z.array(z.object({ name: z.string(), id: z.uuid() })).max(MOST_VOLUMES_A_LINE),
    /** The state that is known with this line; absent while more of it follows. */
    now: knownPoolSchema.optional(),
  }),
  z.object({ type: z.literal('volumes-end'), pool: nameSchema, now: knownPoolSchema }),
  z.object({ type: z.literal('domains-begin') }),
  z.object({
    type: z.literal('domains'),
    domains: z.array(hostDomainSchema).max(MOST_DOMAINS_A_LINE),
    gone: z.array(domainKeySchema).max(MOST_DOMAINS_A_LINE),
    now: knownDomainsSchema.optional(),
  }),
  z.object({ type: z.literal('domains-end'), now: knownDomainsSchema }),
  z.object({ type: z.literal('caught-up') }),
  z.object({ type: z.literal('holds-transfers') }),
  z.strictObject({ type: z.literal('alive') }),
]);
export type AgentEvent = z.infer<typeof agentEventSchema>;
