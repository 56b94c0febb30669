import { createHash } from 'node:crypto';
import { clock } from '../../../shared/util/clock.ts';

const KINDS: Record<string, string> = {
  new: 'was being made when an agent was ended',
  stage: 'what a transfer that is not over has brought',
  made: 'what a transfer that is not over is to become',
  old: 'a volume that a transfer takes the place of',
  kept: 'a volume in the trash of an agent',
  gone: 'what had the name of a volume that was being deleted when an agent was ended: that one, or one that another host had made by then',
};

const OF_TRANSFERS = ['stage', 'made', 'old'];

/**
 * Names of devices that are no volumes: `.stowage.OWNER.KIND-MORE`, 36 characters at most, as many as the name of a partition has.
 * Several hosts may share one storage, and even define their pools by one document: the owner is a pool of one agent.
 */
export class HiddenNames {
  readonly #prefix: string;
  /** What this process works on. */
  readonly #used = new Set<string>();

  /** `owner` is a text of its own for each pool of each agent. */
  constructor(owner: string) {
    this.#prefix = `.stowage.${createHash('sha256').update(owner).digest('hex').slice(0, 8)}.`;
  }

  /** A name that nothing has, for what nobody needs after a kill. */
  scratch(): Disposable & { name: string } {
    return this.#use(`${this.#prefix}new-${clock.uuid().replaceAll('-', '').slice(0, 12)}`);
  }

  /** For the device of a uid, while it is being removed: after a kill it is known by it, and another that has the name is not. */
  doomed(uid: string): Disposable & { name: string } {
    return this.#use(this.#doomedName(uid));
  }

  #doomedName(uid: string): string {
    return `${this.#prefix}gone-${createHash('sha256').update(uid).digest('hex').slice(0, 12)}`;
  }

  #use(name: string): Disposable & { name: string } {
    this.#used.add(name);
    return { name, [Symbol.dispose]: () => void this.#used.delete(name) };
  }

  /**
   * A name that is known again after a kill: of what arrives, of what is made of it, of the volume that it takes the place of, or of a
   * volume in the trash.
   */
  of(kind: 'stage' | 'made' | 'old' | 'kept', more: string): string {
    return `${this.#prefix}${kind}-${more}`;
  }

  /** What is behind the kind in a name that {@link of} gave; undefined for any other name. */
  moreOf(kind: 'kept', name: string): string | undefined {
    const prefix = `${this.#prefix}${kind}-`;
    return name.startsWith(prefix) ? name.slice(prefix.length) : undefined;
  }

  /**
   * What a hidden device of any agent is; undefined for one with another name. `isOurs`: of this pool of this agent. `isBusy`: it is
   * ours, and this process works on it, or a transfer that is not over does.
   */
  describe(name: string): { what: string; isOurs: boolean; isBusy: boolean } | undefined {
    const kind = /^\.stowage\.[0-9a-f]{8}\.([a-z]+)-/.exec(name)?.[1] ?? '';
    const what = KINDS[kind];
    if (what === undefined) return undefined;
    const isOurs = name.startsWith(this.#prefix);
    return { what, isOurs, isBusy: isOurs && (this.#used.has(name) || OF_TRANSFERS.includes(kind)) };
  }

  /** Whether a device is what a killed process was making, or the one that it was removing. */
  isLeftover(name: string, uid?: string): boolean {
    if (this.#used.has(name)) return false;
    return name.startsWith(`${this.#prefix}new-`) || (uid !== undefined && name === this.#doomedName(uid));
  }
}
