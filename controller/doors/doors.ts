import type { Services } from '../actions/action.ts';
import type { Gate } from '../auth/gate.ts';
import type { OpenId } from '../auth/open-id.ts';
import type { Revocations } from '../auth/revocations.ts';
import type { SignIn } from '../auth/sign-in.ts';
import type { FleetEvents } from '../events/fleet-events.ts';
import type { WebSocketLinks } from '../hosts/websocket-links.ts';
import type { Traffic } from '../metrics/traffic.ts';
import type { Sealing } from '../secrets/sealing.ts';
import type { EventReaders } from './events/event-readers.ts';
import type { SourceOf } from './source.ts';

/** What every door works with. */
export interface Doors {
  services: Services;
  gate: Gate;
  signIn: SignIn;
  /** By which people sign in, too, where there is one. */
  openId?: OpenId;
  /** Seals what a browser keeps and must not change. */
  sealing: Sealing;
  /** Under which browsers reach the controller, without a slash at its end; as they ask for it where it is not said. */
  publicUrl?: string;
  /** Whether it speaks TLS with a certificate of its own, which clients know by its fingerprint. */
  isSelfSigned: boolean;
  revocations: Revocations;
  fleetEvents: FleetEvents;
  eventReaders: EventReaders;
  traffic: Traffic;
  webSockets: WebSocketLinks;
  sourceOf: SourceOf;
}
