import { z } from 'zod';
import { poolSchema } from '../conf/pool.ts';
import { volumeSchema } from '../conf/volume.ts';
import { nameSchema } from '../util/names.ts';
import { agentInfoSchema, layoutSchema, transferSpecSchema, transferStatusSchema } from './agent.ts';
import { domainSchema, domainUseSchema, volumeUserSchema } from './domains.ts';
import {
  ATTENTION_KINDS,
  ATTENTION_SEVERITIES,
  AUDIT_OUTCOMES,
  IMAGE_CONTENTS,
  JOB_STATES,
  SECRET_KINDS,
} from './lists.ts';
import { ROLES } from './rights.ts';

/**
 * What the controller tells its clients: one shape for a thing, in every answer, in events, in the command line. Sizes are
 * in bytes, times in ms since the epoch; what is not known is absent.
 */

export const roleSchema = z.enum(ROLES);

/** A label of a host: NAME or NAME=VALUE, such as `prod` or `rack=3`. */
export const labelSchema = z
  .string()
  .regex(
    /^[A-Za-z0-9][\w.-]{0,62}(=[\w.-]{1,63})?$/,
    'a label is NAME or NAME=VALUE, such as prod or rack=3',
  );

/** A part of the fleet: `HOST`, `HOST/POOL`, or `@LABEL` for the hosts that have a label. */
export const scopeSchema = z
  .string()
  .max(512)
  .refine((scope) => {
    if (scope.startsWith('@')) return labelSchema.safeParse(scope.slice(1)).success;
    const parts = scope.split('/');
    return parts.length <= 2 && parts.every((part) => nameSchema.safeParse(part).success);
  }, 'a scope is HOST, HOST/POOL or @LABEL');

export const tokenSchema = z.object({
  /** Random, never used again: a name may be. */
  id: z.string(),
  name: nameSchema,
  role: roleSchema,
  /** Where it may act; everywhere when there is none. */
  scopes: z.array(scopeSchema),
  createdAt: z.number(),
  expiresAt: z.number().optional(),
  /** To the minute. */
  usedAt: z.number().optional(),
});
export type Token = z.infer<typeof tokenSchema>;

/** Somebody who signs in. */
export const userSchema = z.object({
  /** Random, never used again: a name may be. */
  id: z.string(),
  name: nameSchema,
  role: roleSchema,
  /** Where they may act; everywhere when there is none. */
  scopes: z.array(scopeSchema),
  createdAt: z.number(),
  hasPassword: z.boolean(),
  /** They sign in by the OpenID provider, too. */
  isLinked: z.boolean(),
  /** Their password alone does not let them in: they have a passkey, or an app that shows codes. */
  hasSecondFactor: z.boolean(),
});
export type User = z.infer<typeof userSchema>;

/** By which its user signs in without a password. */
export const passkeySchema = z.object({
  id: z.string(),
  name: z.string(),
  createdAt: z.number(),
  usedAt: z.number().optional(),
});
export type Passkey = z.infer<typeof passkeySchema>;

/** One's own account. */
export const accountSchema = userSchema.omit({ role: true, scopes: true }).extend({
  /** An app shows codes that are asked for beside the password. */
  hasCodes: z.boolean(),
  passkeys: z.array(passkeySchema),
  recoveryCodesLeft: z.number().int(),
});
export type OwnAccount = z.infer<typeof accountSchema>;

/** A browser in which somebody has signed in. */
export const sessionSchema = z.object({
  id: z.string(),
  /** From where they signed in, and with which program. */
  source: z.string(),
  client: z.string(),
  createdAt: z.number(),
  /** To the minute. */
  usedAt: z.number(),
  expiresAt: z.number(),
  /** It is the one that asks. */
  isCurrent: z.boolean(),
});
export type Session = z.infer<typeof sessionSchema>;

/** A one-time right to become a user, or to set a new password. Its token stands behind `#` in a link to the page. */
/** What is odd about what was done all the same. */
export const warningsField = { warnings: z.array(z.string()).optional() };

export const invitationSchema = z.object({ token: z.string(), expiresAt: z.number(), ...warningsField });
export type Invitation = z.infer<typeof invitationSchema>;

/** An invitation that nobody has taken yet; its link is told once, when it is made. */
export const openInvitationSchema = z.object({
  /** Absent where whoever takes it chooses it: the first administrator. */
  name: z.string().optional(),
  role: roleSchema,
  scopes: z.array(scopeSchema),
  expiresAt: z.number(),
  /** There is a user of this name, who may set a new password by it. */
  isReset: z.boolean(),
});
export type OpenInvitation = z.infer<typeof openInvitationSchema>;

export const secretKindSchema = z.enum(SECRET_KINDS);
export type SecretKind = z.infer<typeof secretKindSchema>;

/** A password or key of storage. Its value is never told. */
export const secretSchema = z.object({
  id: z.string(),
  kind: secretKindSchema,
  /** By which documents name it; of a volume its path, or any text. */
  usage: z.string(),
  description: z.string().optional(),
  /** Which hosts and pools may have it. */
  scopes: z.array(scopeSchema),
  changedAt: z.number(),
});
export type Secret = z.infer<typeof secretSchema>;

export const hostStateSchema = z.enum(['connecting', 'reachable', 'unreachable']);

/** How the controller reaches a host's agent. */
export const hostLinkSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('local'), socket: z.string() }),
  z.object({
    kind: z.literal('ssh'),
    user: z.string(),
    hostname: z.string(),
    port: z.number(),
    identities: z.array(z.string()),
    identitiesOnly: z.boolean(),
    /** Of the host key that is pinned, `SHA256:…`. */
    fingerprint: z.string(),
  }),
  /** The agent dials in; `enrolled` once it has. */
  z.object({ kind: z.literal('websocket'), enrolled: z.boolean() }),
]);

export const hostSchema = z.object({
  id: z.string(),
  name: nameSchema,
  link: hostLinkSchema,
  /** The agent's own random id, once it was reached. */
  agentId: z.string().optional(),
  state: hostStateSchema,
  /** Why it is in that state. */
  reason: z.string().optional(),
  /** When the state began. */
  since: z.number(),
  createdAt: z.number(),
  labels: z.array(labelSchema),
});
export type Host = z.infer<typeof hostSchema>;

/** `agent`: what it says of itself now; absent while it cannot be asked. */
export const hostDetailsSchema = hostSchema.extend({ agent: agentInfoSchema.optional() });
export type HostDetails = z.infer<typeof hostDetailsSchema>;

export const fleetPoolSchema = poolSchema.extend({
  host: nameSchema,
  /** Of the link to its host: unless that is reachable, everything else is as it was told last. */
  hostState: hostStateSchema,
  /** How many volumes are known to be in it. */
  volumeCount: z.number().int(),
});
export type FleetPool = z.infer<typeof fleetPoolSchema>;

export const poolDetailsSchema = fleetPoolSchema.extend({
  /** `host/pool` of the others that are the same storage, of those that the caller may see. */
  sameStorage: z.array(z.string()),
});
export type PoolDetails = z.infer<typeof poolDetailsSchema>;

/** The right to change, or to read, a volume, which somebody has now. */
export const heldLockSchema = z.object({
  /** `host/pool/volume`, as its holder names it. */
  volume: z.string(),
  mode: z.enum(['read', 'write']),
  /** In words: a job with its progress, or a request. */
  holder: z.string(),
  job: z.number().int().optional(),
  /** Rises with each holder; a host refuses those that are lower than one that it has seen. */
  token: z.number(),
  /** ms since the epoch. */
  acquiredAt: z.number(),
});
export type HeldLock = z.infer<typeof heldLockSchema>;

export const fleetVolumeSchema = volumeSchema.extend({ host: nameSchema, pool: nameSchema });
export type FleetVolume = z.infer<typeof fleetVolumeSchema>;

export const volumeDetailsSchema = fleetVolumeSchema.extend({
  /** `host/pool/volume` of the base that it stands on, where that is known. */
  parent: z.string().optional(),
  /** Where it is known as a copy: what it is a copy of, and since when it is whole (ms since the epoch). */
  copyOf: z
    .object({
      /** `host/pool/volume`; absent where no host has it now. */
      source: z.string().optional(),
      sourceId: z.string(),
      snapshot: z.string().optional(),
      copiedAt: z.number(),
    })
    .optional(),
  /** `host/pool/volume` of the linked clones that stand on it, at most 1000. */
  clones: z.array(z.string()),
  /** What holds a lease on it now, in words. */
  heldBy: z.array(z.string()),
  /** The node of the loop device that it is mapped as; absent where there is none, or its host cannot say it now. */
  mappedAs: z.string().optional(),
  /** The domains that use it; while the host cannot be asked, as it told last; absent where it has told nothing yet. */
  users: z.array(volumeUserSchema).optional(),
});
export type VolumeDetails = z.infer<typeof volumeDetailsSchema>;

/** A volume as Proxmox VE's `list_images` and `list_volumes` tell of it. */
export const imageSchema = z.object({
  /** `POOL:NAME`; a linked clone is named with its base where its storage does so. */
  volid: z.string(),
  content: z.enum(IMAGE_CONTENTS),
  host: nameSchema,
  pool: nameSchema,
  name: z.string(),
  id: z.uuid(),
  /** The guest that owns it, by its name. */
  vmid: z.number().int().optional(),
  format: z.string(),
  sizeBytes: z.number(),
  usedBytes: z.number(),
  /** Name of the base that it stands on. */
  parent: z.string().optional(),
  /** ms since the epoch; absent where its storage does not tell. */
  createdAt: z.number().optional(),
  isBase: z.boolean(),
  isProtected: z.boolean(),
  notes: z.string().optional(),
});
export type Image = z.infer<typeof imageSchema>;

/** `uses`: the volumes that it uses; absent while that is not known. */
export const fleetDomainSchema = domainSchema.extend({
  host: nameSchema,
  uses: z.array(domainUseSchema).optional(),
});
export type FleetDomain = z.infer<typeof fleetDomainSchema>;

const countsSchema = z.record(z.string(), z.number().int());

/** All of the fleet that the caller may see, in numbers; by state, where there are any. Volumes are not counted for it. */
export const fleetTotalsSchema = z.object({
  version: z.string(),
  caller: tokenSchema.pick({ name: true, role: true, scopes: true }),
  hosts: z.object({ byState: countsSchema }),
  pools: z.object({
    byState: countsSchema,
    capacityBytes: z.number(),
    allocationBytes: z.number(),
    availableBytes: z.number(),
    volumeCount: z.number().int(),
  }),
  /** Jobs that have not ended. */
  jobs: z.object({ byState: countsSchema }),
});
export type FleetTotals = z.infer<typeof fleetTotalsSchema>;

export const jobStateSchema = z.enum(JOB_STATES);
export type JobState = z.infer<typeof jobStateSchema>;

export const jobSchema = z.object({
  id: z.number().int(),
  kind: z.string(),
  state: jobStateSchema,
  /** What it is about: `host/pool/volume`; what it reads from, where that is another. */
  target: z.string(),
  source: z.string().optional(),
  /** What was asked for. */
  params: z.record(z.string(), z.unknown()),
  doneBytes: z.number(),
  /** 0 while it is not known. */
  totalBytes: z.number(),
  /** What went over the network. */
  wireBytes: z.number(),
  /** Why it waits, or why it ended. */
  error: z.object({ code: z.string(), message: z.string() }).optional(),
  createdBy: z.string(),
  createdAt: z.number(),
  /** When it ran for the first time. */
  startedAt: z.number().optional(),
  endedAt: z.number().optional(),
  /** When somebody had seen that it failed: since then it wants no attention. */
  dismissedAt: z.number().optional(),
  /** How many jobs come before it, for one that is queued; 1000 for more. */
  queuePosition: z.number().int().optional(),
  /** The host that is away and without which it cannot run, for one that is queued. */
  waitsFor: nameSchema.optional(),
});
export type Job = z.infer<typeof jobSchema>;

export const jobDetailsSchema = jobSchema.extend({
  steps: z.array(z.object({ name: z.string(), startedAt: z.number(), finishedAt: z.number().optional() })),
});
export type JobDetails = z.infer<typeof jobDetailsSchema>;

/** Something of the fleet that wants somebody to look. `id` is the same as long as it lasts. */
export const attentionItemSchema = z.object({
  id: z.string(),
  kind: z.enum(ATTENTION_KINDS),
  severity: z.enum(ATTENTION_SEVERITIES),
  host: nameSchema.optional(),
  pool: nameSchema.optional(),
  /** The number of a job. */
  job: z.number().int().optional(),
  /** One line, without a full stop. */
  summary: z.string(),
  /** Why, as far as that is known. */
  reason: z.string(),
  /** Ms since the epoch. */
  since: z.number(),
});
export type AttentionItem = z.infer<typeof attentionItemSchema>;

/** An upload is a job that its client drives. */
export const uploadSchema = z.object({
  job: z.number().int(),
  spec: transferSpecSchema,
  status: transferStatusSchema,
});
export type Upload = z.infer<typeof uploadSchema>;

/**
 * The first line of the answer to a direct upload or download: where the host lets in, by TLS, whoever holds the ticket. The
 * addresses are those under which the controller knows the host. What follows is progress, or `{}`; the ticket ends with
 * the answer.
 */
export const directUploadSchema = z.object({
  transfer: z.uuid(),
  ticket: z.string(),
  addresses: z.array(z.string()),
  port: z.number(),
});
export type DirectUpload = z.infer<typeof directUploadSchema>;
export const directDownloadSchema = directUploadSchema.extend({ layout: layoutSchema });
export type DirectDownload = z.infer<typeof directDownloadSchema>;

/** Something that can be done: by whom, and whether its place must be theirs as a whole (`act`). */
export const actionSchema = z.object({
  name: z.string(),
  summary: z.string(),
  role: roleSchema,
  touch: z.enum(['look', 'act']),
});
export type ActionDescription = z.infer<typeof actionSchema>;

/** How space was used from a time on, and until the next point. */
export const spacePointSchema = z.object({
  at: z.number(),
  capacityBytes: z.number(),
  allocationBytes: z.number(),
  /** The highest use of the minute, hour or day for which the point is. */
  peakBytes: z.number(),
  /** What the volumes may grow to together. */
  provisionedBytes: z.number().optional(),
});
export type SpacePoint = z.infer<typeof spacePointSchema>;

export const enrolmentSchema = z.object({
  token: z.string(),
  expiresAt: z.number(),
  /** Where whoever has asked reaches the controller. */
  url: z.string(),
  /** Whether its certificate there is its own, which nothing on another machine vouches for. */
  isSelfSigned: z.boolean(),
});
export type Enrolment = z.infer<typeof enrolmentSchema>;

export const agentFileSchema = z.object({ name: z.string(), sizeBytes: z.number(), sha256: z.string() });
export type AgentFile = z.infer<typeof agentFileSchema>;

/** Who did what, from where, to what, and how it ended. Each record carries the hash of the one before. */
export const auditRecordSchema = z.object({
  seq: z.number().int(),
  at: z.number(),
  actor: z.string(),
  /** Address of the client, or `controller`, or `agent`. */
  source: z.string(),
  /** `noun.verb`. */
  action: z.string(),
  /** `host/pool/volume`, or as much of it as there is. */
  target: z.string(),
  outcome: z.enum(AUDIT_OUTCOMES),
  detail: z.string(),
  previous: z.string(),
  hash: z.string(),
});
export type AuditRecord = z.infer<typeof auditRecordSchema>;

export const auditCheckpointSchema = z.object({
  seq: z.number().int(),
  hash: z.string(),
  at: z.number(),
  signature: z.string(),
});
export type AuditCheckpoint = z.infer<typeof auditCheckpointSchema>;

export const auditVerdictSchema = z.object({
  ok: z.boolean(),
  /** How many there are. */
  records: z.number().int(),
  /** The number of the first one; those before are in archives. */
  first: z.number().int(),
  /** The signed end of the chain: whoever keeps one can later prove that nothing before it was changed or cut off. */
  head: auditCheckpointSchema.optional(),
  /** The first record that is wrong, and what is wrong with it. */
  badSeq: z.number().int().optional(),
  reason: z.string().optional(),
  /** Up to which record each witness has seen it, and when, ms since the epoch; 0 for the trail's own checkpoints in a file. */
  witnessed: z.array(z.object({ name: z.string(), seq: z.number().int(), at: z.number() })),
  /** PEM. */
  publicKey: z.string(),
});
export type AuditVerdict = z.infer<typeof auditVerdictSchema>;

/** What a migration would meet now. */
export const migrationCheckSchema = z.object({
  /** All that would refuse it. */
  problems: z.array(z.object({ code: z.string(), message: z.string() })),
  /** At the target; absent where the source cannot be read. */
  format: z.string().optional(),
  /** Whether it travels as it is stored, or its content does. */
  as: z.enum(['image', 'content']).optional(),
  capacityBytes: z.number().optional(),
  /** What the source takes now; holes and zeros do not travel. */
  mostBytes: z.number(),
});
export type MigrationCheck = z.infer<typeof migrationCheckSchema>;

/** Who sees the trail grow, from outside. */
export const auditWitnessesSchema = z.object({
  /** How they know it. */
  origin: z.string(),
  /** By which they check that it is ours: `ORIGIN+ID+BASE64`. */
  key: z.string(),
  witnesses: z.array(
    z.object({
      name: z.string(),
      /** The last record that it has seen; 0 before the first. */
      seq: z.number().int(),
      /** When it has said so, ms since the epoch. */
      at: z.number().optional(),
      /** Why it does not see more. */
      reason: z.string().optional(),
    }),
  ),
});
export type AuditWitnesses = z.infer<typeof auditWitnessesSchema>;

const place = { host: nameSchema, pool: nameSchema };
/**
 * A change of the fleet. `seq` rises with every event: a reader that was cut asks for what came `since` the last one it had.
 * `now` is the thing as it is when the event is sent, which may be later than the change; without it the thing is gone, and so
 * is everything in it, of which no events are sent.
 */
export const fleetEventSchema = z.discriminatedUnion('type', [
  z.object({ seq: z.number(), type: z.literal('host'), host: nameSchema, now: hostSchema.optional() }),
  z.object({ seq: z.number(), type: z.literal('pool'), ...place, now: fleetPoolSchema.optional() }),
  z.object({
    seq: z.number(),
    type: z.literal('volume'),
    ...place,
    volume: z.string(),
    now: fleetVolumeSchema.optional(),
  }),
  z.object({
    seq: z.number(),
    type: z.literal('domain'),
    host: nameSchema,
    origin: domainSchema.shape.origin,
    domain: z.string(),
    uuid: domainSchema.shape.uuid,
    now: fleetDomainSchema.optional(),
  }),
  z.object({
    seq: z.number(),
    type: z.literal('job'),
    job: z.number().int(),
    now: jobDetailsSchema.optional(),
  }),
  /** What came since is kept no more: read the lists again, then go on from here. */
  z.object({ seq: z.number(), type: z.literal('lost') }),
]);
export type FleetEvent = z.infer<typeof fleetEventSchema>;
