import { clock } from '../../../shared/util/clock.ts';

/**
 * Names of devices that are no volumes: `.stowage.POOL.KIND-MORE`. Several hosts may share one storage, so each pool knows its
 * own by a part of its UUID.
 */
export class HiddenNames {
  readonly #prefix: string;
  /** What this process works on. */
  readonly #used = new Set<string>();

  constructor(poolUuid: string) {
    this.#prefix = `.stowage.${poolUuid.replaceAll('-', '').slice(0, 12)}.`;
  }

  /** A name that nothing has, for what nobody needs after a kill. */
  scratch(): Disposable & { name: string } {
    const name = `${this.#prefix}new-${clock.uuid().replaceAll('-', '').slice(0, 16)}`;
    this.#used.add(name);
    return { name, [Symbol.dispose]: () => void this.#used.delete(name) };
  }

  /** A name that is known again after a kill: of a stage, or of the volume that it takes the place of. */
  of(kind: 'stage' | 'old', more: string): string {
    return `${this.#prefix}${kind}-${more}`;
  }

  /** Whether a device is what a killed process was making. */
  isLeftover(name: string): boolean {
    return name.startsWith(`${this.#prefix}new-`) && !this.#used.has(name);
  }
}
