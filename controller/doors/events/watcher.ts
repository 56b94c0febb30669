import type { FleetEvent } from '../../../shared/protocol/api.ts';
import { clock } from '../../../shared/util/clock.ts';
import { isStowageError } from '../../../shared/util/errors.ts';
import type { Credentials } from '../../auth/gate.ts';
import type { Principal } from '../../auth/principal.ts';
import type { Doors } from '../doors.ts';

/** How often it is looked whether a reader's token or session is still in force. */
const LOOK_MS = 30_000;

/** Who reads events, and what ends that. */
export interface Reader {
  principal: Principal;
  /** By which it is looked again who it is. */
  credentials: Credentials;
  /** The number of the last event that it has; without it only what comes from now on. */
  since?: number;
  /** Settles when the event is on its way. */
  send(event: FleetEvent): Promise<void>;
  /** Ends the reading: its token or session is in force no more, or the events cannot be read. */
  end(): void;
}

/** Sends a reader its events until `signal` ends, or its token does. */
export async function watch(
  { gate, revocations, fleetEvents }: Doors,
  reader: Reader,
  signal: AbortSignal,
): Promise<void> {
  const revoked = (id: string): void => {
    if (id === reader.principal.id) reader.end();
  };
  revocations.on('revoked', revoked);
  // One that expires, or that another controller has revoked, ends too.
  const look = clock.every(LOOK_MS, () => {
    gate.identify(reader.credentials, false).catch((error: unknown) => {
      // That it cannot be looked up now says nothing of it.
      if (isStowageError(error, 'unauthenticated')) reader.end();
    });
  });
  try {
    for await (const event of fleetEvents.follow(reader.principal, reader.since, signal))
      await reader.send(event);
  } catch {
    // The reader comes back and asks for what came since.
    reader.end();
  } finally {
    look.stop();
    revocations.off('revoked', revoked);
  }
}

/** The number in `since=`; undefined for none, and for what is no number. */
export function sinceOf(text: string | null | undefined): number | undefined {
  return text && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}
