import type { Readable } from 'node:stream';
import type { z } from 'zod';
import type { Place, Role } from '../../shared/protocol/rights.ts';
import type { Attention } from '../attention/items.ts';
import type { AuditTrail } from '../audit/trail.ts';
import type { TrailUpkeep } from '../audit/upkeep.ts';
import type { Account } from '../auth/account.ts';
import type { Principal } from '../auth/principal.ts';
import type { Sessions } from '../auth/sessions.ts';
import type { Tokens } from '../auth/tokens.ts';
import type { Users } from '../auth/users.ts';
import type { Fleet } from '../hosts/fleet.ts';
import type { DiskNumbers } from '../inventory/disk-numbers.ts';
import type { Inventory } from '../inventory/inventory.ts';
import type { LeftoverWatch } from '../inventory/leftover-watch.ts';
import type { SpaceHistory } from '../inventory/space-history.ts';
import type { Leases } from '../jobs/leases.ts';
import type { JobRunner } from '../jobs/runner.ts';
import type { Uploads } from '../jobs/uploads.ts';
import type { Metrics } from '../metrics/metrics.ts';
import type { Passphrases } from '../secrets/passphrases.ts';
import type { Secrets } from '../secrets/secrets.ts';

/** What actions work with. */
export interface Services {
  account: Account;
  attention: Attention;
  audit: AuditTrail;
  upkeep: TrailUpkeep;
  diskNumbers: DiskNumbers;
  fleet: Fleet;
  inventory: Inventory;
  jobs: JobRunner;
  leases: Leases;
  leftovers: LeftoverWatch;
  secrets: Secrets;
  passphrases: Passphrases;
  metrics: Metrics;
  sessions: Sessions;
  spaceHistory: SpaceHistory;
  tokens: Tokens;
  uploads: Uploads;
  users: Users;
}

/** Who asks for an action, and from where. */
export interface Call {
  readonly principal: Principal;
  /** Address of the client. */
  readonly source: string;
  /** Ends when nobody waits for the answer any more. Only reading ends with it. */
  readonly signal: AbortSignal;
  /** Where the caller reaches the controller, such as `https://storage.example`; of HTTP only. */
  readonly origin?: string;
  /** Whether the certificate that the caller sees is the controller's own. */
  readonly isSelfSigned?: boolean;
  /** Bytes that come with the call. */
  readonly body?: Readable;
  /** Adds to the record of the outcome. */
  note(text: string): void;
}

/** Bytes as an answer. */
export interface ByteStream {
  body: Readable;
  contentType: string;
  /** Of HTTP: 206 for a part. */
  status?: number;
  headers?: Record<string, string>;
}

/** How an action answers: by a document of a schema, not at all, by a document of libvirt, or by bytes. */
export type Answer = z.ZodType | 'nothing' | 'xml' | 'bytes';
type Answered<A extends Answer> = A extends z.ZodType
  ? z.input<A>
  : A extends 'nothing'
    ? undefined
    : A extends 'xml'
      ? string
      : ByteStream;

type ObjectSchema = z.ZodObject;
type Input<S extends ObjectSchema> = z.output<S>;

/** One thing that can be done, for every door. */
interface Definition<S extends ObjectSchema, P, A extends Answer> {
  /** `noun.verb`; in the audit trail too. */
  name: string;
  /** One sentence for those who look for it. */
  summary: string;
  /** The lowest role that may do it. */
  role: Role;
  /** It changes something, or gives out what others own: it is on record before it is done. */
  audited?: boolean;
  input: S;
  answer: A;
  /**
   * The parts of the fleet that it touches: who may not touch all of them is refused. The host and pool of the input unless
   * said otherwise; `[]` where the answer itself is limited to what its caller may see.
   */
  places?(input: Partial<Input<S>>): Place[];
  /**
   * `look`: who may do something in a pool may do this to its host too. Viewers' actions look unless they say otherwise; all
   * others `act`.
   */
  touch?: 'look' | 'act';
  /** What else stands in a document of libvirt that may come in place of the input, as `xml`. */
  document?(services: Services, given: { xml: string } & Record<string, unknown>): Promise<object>;
  /** Looks whether it can be done, and finds out what the record must say. Changes nothing. */
  plan?(services: Services, input: Input<S>, call: Call): Promise<P>;
  /** The decisive things for the record; the target is what the input names unless said otherwise. */
  record?(input: Input<S>, plan: P): { target?: string; detail?: string };
  run(
    services: Services,
    input: Input<S>,
    call: Call,
    plan: P,
  ): Promise<A extends 'nothing' ? void : Answered<A>>;
}

/** An action, whatever its types. */
export interface Action {
  readonly name: string;
  readonly summary: string;
  readonly role: Role;
  readonly audited: boolean;
  readonly input: ObjectSchema;
  readonly answer: Answer;
  places(input: Record<string, unknown>): Place[];
  readonly touch: 'look' | 'act';
  readonly document?: (
    services: Services,
    given: { xml: string } & Record<string, unknown>,
  ) => Promise<object>;
  plan(services: Services, input: Record<string, unknown>, call: Call): Promise<unknown>;
  record(input: Record<string, unknown>, plan: unknown): { target?: string; detail?: string };
  run(services: Services, input: Record<string, unknown>, call: Call, plan: unknown): Promise<unknown>;
}

function ownPlaces({ host, pool }: Record<string, unknown>): Place[] {
  return [
    {
      host: typeof host === 'string' ? host : undefined,
      pool: typeof pool === 'string' ? pool : undefined,
    },
  ];
}

/** Declares an action; what it does with its input is checked by the compiler here, and nowhere else. */
export function defineAction<S extends ObjectSchema, A extends Answer, P = undefined>(
  definition: Definition<S, P, A>,
): Action {
  const { audited = false, places = ownPlaces, plan, record, role } = definition;
  const erased = {
    audited,
    touch: definition.touch ?? (role === 'viewer' ? 'look' : 'act'),
    places,
    plan: plan ?? (async () => undefined),
    record: record ?? (() => ({})),
  };
  return { ...definition, ...erased } as unknown as Action;
}
