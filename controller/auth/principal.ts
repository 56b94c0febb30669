import type { Reach, Role } from '../../shared/protocol/rights.ts';

/** Somebody who may do something. */
export interface Principal extends Reach {
  /** Of the token or the session by which they are let in: random, never used again. */
  id: string;
  /** A program with a token, a person with a session, or the controller itself. */
  kind: 'token' | 'user' | 'controller';
  name: string;
  role: Role;
  /** The id of the user, of a session. */
  user?: string;
}

/** What the controller does by itself. */
export const CONTROLLER: Principal = {
  id: 'controller',
  kind: 'controller',
  name: 'controller',
  role: 'admin',
  scopes: [],
  labels: { has: () => false },
};
