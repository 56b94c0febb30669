import type { Services } from '../actions/action.ts';
import type { Gate } from '../auth/gate.ts';
import type { Revocations } from '../auth/revocations.ts';
import type { SignIn } from '../auth/sign-in.ts';
import type { FleetEvents } from '../events/fleet-events.ts';
import type { WebSocketLinks } from '../hosts/websocket-links.ts';
import type { SourceOf } from './source.ts';

/** What every door works with. */
export interface Doors {
  services: Services;
  gate: Gate;
  signIn: SignIn;
  revocations: Revocations;
  fleetEvents: FleetEvents;
  webSockets: WebSocketLinks;
  sourceOf: SourceOf;
}
