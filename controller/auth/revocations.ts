import { EventEmitter } from 'node:events';

/** Emits `revoked` with the id of a token or a session that is in force no more, or gives other rights from now on. */
export class Revocations extends EventEmitter<{ revoked: [string] }> {
  constructor() {
    super();
    this.setMaxListeners(0);
  }
}
