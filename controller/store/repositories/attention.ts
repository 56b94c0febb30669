import type { Kysely } from 'kysely';
import { z } from 'zod';
import { type AttentionItem, attentionItemSchema } from '../../../shared/protocol/api.ts';
import { ATTENTION_SEVERITIES, type AttentionSeverity } from '../../../shared/protocol/lists.ts';
import type { Database } from '../schema.ts';

/** An item that was there at the last look. `told`: as how bad people know it; absent while they do not. */
export interface KnownItem {
  item: AttentionItem;
  /** Since when it is looked at, ms since the epoch. */
  seenAt: number;
  told?: AttentionSeverity;
}

/** What goes out over one channel. */
export interface Message {
  id: string;
  channel: string;
  /** JSON. */
  body: string;
  createdAt: number;
  /** In the order of those of one time. */
  number: number;
  /** When it is tried next. */
  nextAt: number;
  /** How often it was tried in vain. */
  attempts: number;
}

const itemSchema = z.string().transform((text) => attentionItemSchema.parse(JSON.parse(text)));
const severitySchema = z.enum(ATTENTION_SEVERITIES);

export class AttentionReader {
  protected readonly db: Kysely<Database>;

  constructor(db: Kysely<Database>) {
    this.db = db;
  }

  async all(): Promise<KnownItem[]> {
    const rows = await this.db.selectFrom('attention').selectAll().orderBy('seen_at').orderBy('id').execute();
    return rows.map(({ item, seen_at: seenAt, told }) => ({
      item: itemSchema.parse(item),
      seenAt,
      told: told === null ? undefined : severitySchema.parse(told),
    }));
  }

  /** The oldest messages of a channel, in order. */
  async oldest(channel: string, limit: number): Promise<Message[]> {
    const rows = await this.db
      .selectFrom('messages')
      .selectAll()
      .where('channel', '=', channel)
      .orderBy('created_at')
      .orderBy('number')
      .limit(limit)
      .execute();
    return rows.map(({ created_at: createdAt, next_at: nextAt, ...row }) => ({ ...row, createdAt, nextAt }));
  }
}

export class AttentionWriter extends AttentionReader {
  async put({ item, seenAt, told }: KnownItem): Promise<void> {
    const values = { item: JSON.stringify(item), seen_at: seenAt, told: told ?? null };
    await this.db
      .insertInto('attention')
      .values({ id: item.id, ...values })
      .onConflict((conflict) => conflict.column('id').doUpdateSet(values))
      .execute();
  }

  async drop(id: string): Promise<void> {
    await this.db.deleteFrom('attention').where('id', '=', id).execute();
  }

  async addMessage({ createdAt, nextAt, ...message }: Message): Promise<void> {
    await this.db
      .insertInto('messages')
      .values({ ...message, created_at: createdAt, next_at: nextAt })
      .execute();
  }

  /** It is tried now, and again then. */
  async postpone(id: string, nextAt: number): Promise<void> {
    await this.db
      .updateTable('messages')
      .set((eb) => ({ next_at: nextAt, attempts: eb('attempts', '+', 1) }))
      .where('id', '=', id)
      .execute();
  }

  async dropMessage(id: string): Promise<void> {
    await this.db.deleteFrom('messages').where('id', '=', id).execute();
  }

  /** Messages older than a time. */
  async dropOlder(before: number): Promise<void> {
    await this.db.deleteFrom('messages').where('created_at', '<', before).execute();
  }
}
