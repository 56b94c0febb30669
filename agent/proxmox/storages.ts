import { hostname } from 'node:os';
import { clock, type Timer } from '../../shared/util/clock.ts';
import { toStowageError } from '../../shared/util/errors.ts';
import { definitionsOf, type OtherStorage, type StorageDefinition } from './pool-definitions.ts';
import { readStorages } from './storage-config.ts';

/** No watch tells of what another node of the cluster changes. */
const POLL_MS = 5_000;

/** What makes pools of what is defined elsewhere: see `Pools.manage`. */
export interface ManagedPools {
  manage(definitions: readonly StorageDefinition[]): Promise<OtherStorage[]>;
}

/** A storage that is no pool here, and whether somebody should do something about that. */
export type NoPool = OtherStorage & { isFault: boolean };

/** Keeps the pools of this host those that Proxmox VE has as storages, for as long as it has a configuration. */
export class ProxmoxStorages {
  readonly #pools: ManagedPools;
  readonly #root: string;
  #others: readonly NoPool[] = [];
  #last: Promise<void> | undefined;
  readonly #timer: Timer;

  constructor(pools: ManagedPools, root: string) {
    this.#pools = pools;
    this.#root = root;
    this.#timer = clock.every(POLL_MS, () => void this.look(), false);
  }

  /** The storages of this node that are no pools here, and why. */
  get others(): readonly NoPool[] {
    return this.#others;
  }

  /** Looks now. Where the configuration cannot be read, or is not there as the cluster is down, the pools stay as they are. */
  look(): Promise<void> {
    this.#last ??= this.#look().finally(() => {
      this.#last = undefined;
    });
    return this.#last;
  }

  async #look(): Promise<void> {
    try {
      const storages = await readStorages(this.#root);
      if (!storages) return;
      const node = hostname().split('.')[0]!;
      const { definitions, others } = definitionsOf(storages, node, this.#root);
      const refused = await this.#pools.manage(definitions);
      this.#others = [
        ...others.map((other) => ({ ...other, isFault: false })),
        ...refused.map((other) => ({ ...other, isFault: true })),
      ];
    } catch (error) {
      this.#others = [{ storage: 'storage.cfg', reason: toStowageError(error).message, isFault: true }];
    }
  }

  close(): void {
    this.#timer.stop();
  }
}
