import type { Expression, ExpressionBuilder, Kysely, SqlBool } from 'kysely';
import type { AuditCheckpoint, AuditRecord } from '../../../shared/protocol/api.ts';
import type { Database } from '../schema.ts';
import { hostOfPlace, placeInScopes } from '../scopes.ts';

/** The last record that is in an archive only: signed, with the frontier of the Merkle tree up to it, hashes in base64. */
export interface ArchivedEnd {
  seq: number;
  hash: string;
  signature: string;
  frontier: string[];
}

/** Which records are asked for. */
export interface AuditFilter {
  /** Those after a record; else the newest. */
  after?: number;
  /** Ms since the epoch. */
  since?: number;
  until?: number;
  /** One, or with a dot at its end all that begin so. */
  action?: string;
  outcome?: AuditRecord['outcome'];
  actor?: string;
  /** What was done to a host, its pools and volumes. */
  host?: string;
  /** What was done to exactly this, such as `host/pool/volume`. */
  target?: string;
  scopes?: readonly string[];
}

/** What begins actions whose targets are no hosts. */
const OF_THE_FLEET = ['account', 'audit', 'controller', 'secret', 'session', 'token', 'user'];

/** So many are looked at before others get a turn. */
const WALKED = 20_000;

/** Of what is in the scopes. A domain is named as a pool is, and is the host's. */
function inPartOf(eb: ExpressionBuilder<Database, 'audit'>, scopes: readonly string[]): Expression<SqlBool> {
  const [ofPools, ofHosts] = [true, false].map((isPool) =>
    scopes.filter((scope) => scope.includes('/') === isPool),
  );
  // What is of the whole fleet has no place, whatever its target is called.
  const isOfPlace = eb.not(eb.or(OF_THE_FLEET.map((begin) => eb('action', 'like', `${begin}.%`))));
  const isInScopes = eb.or([
    placeInScopes(eb, ofHosts!, 'target'),
    eb.and([placeInScopes(eb, ofPools!, 'target'), eb('action', 'not like', 'domain.%')]),
  ]);
  return eb.and([isOfPlace, isInScopes]);
}

export class AuditReader {
  protected readonly db: Kysely<Database>;

  constructor(db: Kysely<Database>) {
    this.db = db;
  }

  /** Records that pass the filter, in order: those after a number, or the newest. */
  async list(limit: number, { scopes = [], ...filter }: AuditFilter = {}): Promise<AuditRecord[]> {
    const { host, action, outcome, until, since, after } = filter;
    const isUpwards = after !== undefined;
    const query = this.#matching(filter).orderBy('seq', isUpwards ? 'asc' : 'desc');
    const inOrder = (found: AuditRecord[]): AuditRecord[] => (isUpwards ? found : found.reverse());
    const hasIndex =
      filter.target !== undefined || [host, action, outcome, until].every((each) => each === undefined);
    if (scopes.length === 0 && hasIndex) {
      const all = isUpwards ? query.where('seq', '>', after) : query;
      return inOrder(await all.limit(limit).execute());
    }
    // Few of very many records may be asked for: others get a turn while they are looked for.
    const found: AuditRecord[] = [];
    const first = Math.max(
      ((await this.base())?.seq ?? 0) + 1,
      isUpwards ? after + 1 : 0,
      since === undefined ? 0 : await this.#firstSince(since),
    );
    const last = (await this.last())?.seq ?? 0;
    for (let walked = 0; first + walked <= last && found.length < limit; walked += WALKED) {
      const from = isUpwards ? first + walked : Math.max(first, last - walked - WALKED + 1);
      const to = isUpwards ? from + WALKED - 1 : last - walked;
      const part = query.where('seq', '>=', from).where('seq', '<=', to);
      const inPart = scopes.length > 0 ? part.where((eb) => inPartOf(eb, scopes)) : part;
      found.push(...(await inPart.limit(limit - found.length).execute()));
      await new Promise(setImmediate);
    }
    return inOrder(found);
  }

  /** The number of the first record that is not older; one that there is not yet where all are. */
  async #firstSince(since: number): Promise<number> {
    const row = await this.db
      .selectFrom('audit')
      .select('seq')
      .where('at', '>=', since)
      .orderBy('at')
      .orderBy('seq')
      .limit(1)
      .executeTakeFirst();
    return row?.seq ?? ((await this.last())?.seq ?? 0) + 1;
  }

  #matching({ since, until, actor, action, outcome, host, target }: AuditFilter) {
    let query = this.db.selectFrom('audit').selectAll();
    if (since !== undefined) query = query.where('at', '>=', since);
    if (until !== undefined) query = query.where('at', '<', until);
    if (actor !== undefined) query = query.where('actor', '=', actor);
    if (action?.endsWith('.'))
      query = query.where('action', '>=', action).where('action', '<', `${action.slice(0, -1)}/`);
    else if (action !== undefined) query = query.where('action', '=', action);
    if (outcome !== undefined) query = query.where('outcome', '=', outcome);
    if (target !== undefined) query = query.where('target', '=', target);
    if (host !== undefined) query = query.where(hostOfPlace('target'), '=', host);
    return query;
  }

  /**
   * Targets and details of what was done since a time, ms since the epoch, to places and what is in them, where that has a text in it,
   * which has no wildcards.
   */
  async *mentioning(text: string, since: number, places: readonly string[]): AsyncGenerator<string[]> {
    const end = (await this.last())?.seq ?? 0;
    for (let from = await this.#firstSince(since); from <= end; from += WALKED) {
      const rows = await this.db
        .selectFrom('audit')
        .select(['target', 'detail'])
        .where('seq', '>=', from)
        .where('seq', '<', from + WALKED)
        .where('outcome', '=', 'done')
        .where((eb) => eb.or([eb('target', 'like', `%${text}%`), eb('detail', 'like', `%${text}%`)]))
        .execute();
      const isIn = (target: string): boolean =>
        places.some((place) => target === place || target.startsWith(`${place}/`));
      yield rows.flatMap(({ target, detail }) => (isIn(target) ? [`${target} ${detail}`] : []));
      await new Promise(setImmediate);
    }
  }

  async last(): Promise<Pick<AuditRecord, 'seq' | 'hash'> | undefined> {
    return this.db
      .selectFrom('audit')
      .select(['seq', 'hash'])
      .orderBy('seq', 'desc')
      .limit(1)
      .executeTakeFirst();
  }

  /** The last record that is in an archive only, if there is one. */
  async base(): Promise<ArchivedEnd | undefined> {
    const row = await this.db.selectFrom('audit_base').selectAll().executeTakeFirst();
    return row && { ...row, frontier: JSON.parse(row.frontier) as string[] };
  }

  async checkpoints(): Promise<AuditCheckpoint[]> {
    return this.db.selectFrom('audit_checkpoints').selectAll().orderBy('seq').execute();
  }
}

export class AuditWriter extends AuditReader {
  async insert(record: AuditRecord): Promise<void> {
    await this.db.insertInto('audit').values(record).execute();
  }

  /** From now on the trail begins behind this record; those up to it are for {@link dropArchived}. */
  async moveBase({ seq, hash, signature, frontier }: ArchivedEnd): Promise<void> {
    await this.db.deleteFrom('audit_base').execute();
    const row = { seq, hash, signature, frontier: JSON.stringify(frontier) };
    await this.db.insertInto('audit_base').values(row).execute();
  }

  /** Drops the oldest records of those that are in an archive, at most so many. Gives how many those were. */
  async dropArchived(limit: number): Promise<number> {
    const base = await this.base();
    if (!base) return 0;
    const first = await this.db.selectFrom('audit').select('seq').orderBy('seq').limit(1).executeTakeFirst();
    const end = Math.min(base.seq, (first?.seq ?? 0) + limit - 1);
    const { numDeletedRows } = await this.db
      .deleteFrom('audit')
      .where('seq', '<=', end)
      .executeTakeFirstOrThrow();
    return Number(numDeletedRows);
  }

  /** Older ones go: with one of them left, the records after it could be cut off unseen. */
  async replaceCheckpoint(checkpoint: AuditCheckpoint): Promise<void> {
    await this.db.deleteFrom('audit_checkpoints').execute();
    await this.db.insertInto('audit_checkpoints').values(checkpoint).execute();
  }
}
