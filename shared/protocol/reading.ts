import type { Representation } from '../conf/volume.ts';

/** How the bytes of a volume are read. */
export interface Reading {
  as: Representation;
  /** As it was at this snapshot, not as it is; only as content. */
  snapshot?: string;
}

/** The query of a URL that asks for a reading. */
export const readingQuery = ({ as, snapshot }: Reading): string =>
  new URLSearchParams({ as, ...(snapshot !== undefined && { snapshot }) }).toString();
