import { readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { z } from 'zod';
import { volumeFormatSchema } from '../../shared/conf/volume.ts';
import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { type Backend, CONTRACT_VERSION } from './backend.ts';
import { btrfsBackend } from './btrfs/index.ts';
import { dirBackend } from './dir/index.ts';
import { diskBackend } from './disk/index.ts';
import { fsBackend } from './fs/index.ts';
import { glusterBackend } from './gluster/index.ts';
import { iscsiBackend } from './iscsi/index.ts';
import { iscsiDirectBackend } from './iscsi-direct/index.ts';
import { logicalBackend } from './logical/index.ts';
import type { Missing } from './missing.ts';
import { mpathBackend } from './mpath/index.ts';
import { netfsBackend } from './netfs/index.ts';
import { proxmoxBackend } from './proxmox/index.ts';
import { rbdBackend } from './rbd/index.ts';
import { scsiBackend } from './scsi/index.ts';
import { testBackend } from './test/index.ts';
import { vstorageBackend } from './vstorage/index.ts';
import { zfsBackend } from './zfs/index.ts';

/** Longest that a backend may take to say whether it works here. */
const PROBE_MS = 10_000;

const method = z.custom<() => unknown>((value) => typeof value === 'function', 'must be a function');
const backendSchema = z.object({
  type: z.string(),
  contract: z.number(),
  traits: z.object({
    volumes: z.enum(['file', 'block', 'network']),
    formats: z.array(volumeFormatSchema).min(1),
    target: z.enum(['exclusive', 'common', 'none']),
    shared: z.boolean(),
    mayHang: z.boolean(),
    features: z.record(z.string(), z.array(z.string())),
  }),
  check: method,
  probe: method,
  open: method,
});

/** A plug-in that was left aside. */
export interface RefusedBackend {
  file: string;
  reason: string;
}

/** The backends of this agent, by pool type. */
export class BackendRegistry {
  readonly #backends = new Map<string, Backend>();
  /** Plug-ins that cannot be used; they keep nothing else from working. */
  readonly refused: RefusedBackend[] = [];

  /** Throws `invalid-argument` for a second backend of one type and for one written for another contract. */
  register(backend: Backend): void {
    if (typeof backend.contract === 'number' && backend.contract !== CONTRACT_VERSION)
      throw new StowageError(
        'invalid-argument',
        `backend '${backend.type}' is for contract ${backend.contract}, this agent has ${CONTRACT_VERSION}`,
      );
    const { success, error } = backendSchema.safeParse(backend);
    if (!success)
      throw new StowageError(
        'invalid-argument',
        `what it exports is not a backend: ${z.prettifyError(error).slice(0, 300)}`,
      );
    if (this.#backends.has(backend.type))
      throw new StowageError('invalid-argument', `backend '${backend.type}' is registered already`);
    this.#backends.set(backend.type, backend);
  }

  get(type: string): Backend {
    const backend = this.#backends.get(type);
    if (!backend)
      throw new StowageError(
        'not-supported',
        `missing backend for pool type '${type}'; there are: ${[...this.#backends.keys()].join(', ')}`,
      );
    return backend;
  }

  list(): Backend[] {
    return [...this.#backends.values()];
  }

  /** Why a backend cannot work on this host; undefined when it can. Ends in bounded time, and never throws. */
  async probe(backend: Backend): Promise<Missing | undefined> {
    const missing = await bounded('its probe', async () => backend.probe());
    return typeof missing === 'string' ? { reason: missing } : missing;
  }

  /** What some pools of a backend lack here. Ends in bounded time, and never throws. */
  async lacks(backend: Backend): Promise<Missing[]> {
    const lacks = await bounded('its look at what is there', async () => backend.lacks?.());
    return [lacks ?? []].flat().filter((missing) => missing !== undefined);
  }
}

/** What `work` gives, or what is wrong with it. */
async function bounded<T>(what: string, work: () => Promise<T>): Promise<T | Missing> {
  const late = Promise.withResolvers<Missing>();
  const timer = clock.after(PROBE_MS, () => late.resolve({ reason: `${what} does not answer` }), false);
  try {
    return await Promise.race([work(), late.promise]);
  } catch (error) {
    return { reason: `${what} failed: ${error instanceof Error ? error.message : String(error)}` };
  } finally {
    timer.stop();
  }
}

/**
 * The built-in backends, and those in `directory`: each `.mjs` or `.js` file there exports `backend`. One that cannot be
 * loaded or registered is named in {@link BackendRegistry.refused}.
 */
export async function loadBackends(directory: string | undefined): Promise<BackendRegistry> {
  const registry = new BackendRegistry();
  for (const backend of [
    dirBackend,
    fsBackend,
    netfsBackend,
    btrfsBackend,
    diskBackend,
    logicalBackend,
    iscsiBackend,
    iscsiDirectBackend,
    scsiBackend,
    mpathBackend,
    glusterBackend,
    rbdBackend,
    zfsBackend,
    vstorageBackend,
    proxmoxBackend,
    testBackend,
  ])
    registry.register(backend);
  if (!directory) return registry;
  const refuse = (file: string, error: unknown): void =>
    void registry.refused.push({ file, reason: error instanceof Error ? error.message : String(error) });
  const files = await readdir(directory).catch((error) => {
    refuse(directory, error);
    return [];
  });
  for (const file of files.filter((name) => /\.m?js$/.test(name)).sort()) {
    try {
      const module: { backend?: Backend } = await import(pathToFileURL(resolve(join(directory, file))).href);
      if (!module.backend) throw new StowageError('invalid-argument', 'it does not export a backend');
      registry.register(module.backend);
    } catch (error) {
      refuse(file, error);
    }
  }
  return registry;
}
