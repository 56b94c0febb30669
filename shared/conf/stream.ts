import { z } from 'zod';

/** How storage itself writes a volume as one stream, with its snapshots: by `zfs send`, by `btrfs send`. */
export const STREAM_FORMATS = ['zfs', 'btrfs'] as const;
export const streamFormatSchema = z.enum(STREAM_FORMATS);
export type StreamFormat = z.infer<typeof streamFormatSchema>;

/**
 * What of a volume goes into a stream: what it held at a snapshot; with `older` all snapshots before it, too. With `base`, an older
 * snapshot, only what has changed since that, and of the snapshots between only with `older`.
 */
export interface SentStream {
  snapshot: string;
  older: boolean;
  base?: string;
}

/**
 * A volume becomes what it held at the last snapshot of a stream, which is `snapshot` where that is given. `deleteSnapshot` goes once that is
 * done. With `base` the volume is there, and that is its last snapshot: the stream holds what has changed since.
 */
export interface ReceivedStream {
  snapshot?: string;
  deleteSnapshot?: string;
  base?: string;
}

/** What is put on record of a volume that comes as a stream. Absent: it gets an id of its own. */
export interface ReceivedIdentity {
  id?: string;
  transfer?: string;
}
