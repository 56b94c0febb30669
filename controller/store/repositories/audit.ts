import type { Kysely } from 'kysely';
import type { AuditCheckpoint, AuditRecord } from '../../../shared/protocol/api.ts';
import type { Database } from '../schema.ts';
import { placeInScopes } from '../scopes.ts';

/** Which records are asked for. */
export interface AuditFilter {
  /** Those after a record; else the newest. */
  after?: number;
  /** Ms since the epoch. */
  since?: number;
  actor?: string;
  /** What was done to a host, its pools and volumes. */
  host?: string;
  scopes?: readonly string[];
}

export class AuditReader {
  protected readonly db: Kysely<Database>;

  constructor(db: Kysely<Database>) {
    this.db = db;
  }

  /** Records that pass the filter, in order. */
  async list(
    limit: number,
    { after, since, actor, host, scopes = [] }: AuditFilter = {},
  ): Promise<AuditRecord[]> {
    let query = this.db.selectFrom('audit').selectAll().limit(limit);
    if (since !== undefined) query = query.where('at', '>=', since);
    if (actor !== undefined) query = query.where('actor', '=', actor);
    if (host !== undefined) query = query.where((eb) => placeInScopes(eb, [host], 'target'));
    if (scopes.length > 0)
      query = query.where((eb) =>
        eb.or([
          placeInScopes(
            eb,
            scopes.filter((scope) => !scope.includes('/')),
            'target',
          ),
          // A domain is named as a pool is, and is the host's.
          eb.and([
            placeInScopes(
              eb,
              scopes.filter((scope) => scope.includes('/')),
              'target',
            ),
            eb('action', 'not like', 'domain.%'),
          ]),
        ]),
      );
    if (after !== undefined) return query.where('seq', '>', after).orderBy('seq').execute();
    return (await query.orderBy('seq', 'desc').execute()).reverse();
  }

  async last(): Promise<Pick<AuditRecord, 'seq' | 'hash'> | undefined> {
    return this.db
      .selectFrom('audit')
      .select(['seq', 'hash'])
      .orderBy('seq', 'desc')
      .limit(1)
      .executeTakeFirst();
  }

  async checkpoints(): Promise<AuditCheckpoint[]> {
    return this.db.selectFrom('audit_checkpoints').selectAll().orderBy('seq').execute();
  }
}

export class AuditWriter extends AuditReader {
  async insert(record: AuditRecord): Promise<void> {
    await this.db.insertInto('audit').values(record).execute();
  }

  /** Older ones go: with one of them left, the records after it could be cut off unseen. */
  async replaceCheckpoint(checkpoint: AuditCheckpoint): Promise<void> {
    await this.db.deleteFrom('audit_checkpoints').execute();
    await this.db.insertInto('audit_checkpoints').values(checkpoint).execute();
  }
}
