/** By what bytes of volumes pass over the network. */
export const WAYS = ['job', 'received', 'sent'] as const;
export type Way = (typeof WAYS)[number];

/** Bytes of volumes that have passed over the network since the controller was started: by jobs from host to host, and by its own API. */
export class Traffic {
  readonly bytes: Record<Way, number> = { job: 0, received: 0, sent: 0 };

  add(way: Way, bytes: number): void {
    this.bytes[way] += Math.max(0, bytes);
  }
}
