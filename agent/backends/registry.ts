import { readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { StowageError } from '../../shared/util/errors.ts';
import { type Backend, CONTRACT_VERSION } from './backend.ts';
import { dirBackend } from './dir/index.ts';
import { fsBackend } from './fs/index.ts';
import { logicalBackend } from './logical/index.ts';
import { netfsBackend } from './netfs/index.ts';
import { testBackend } from './test/index.ts';

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
    if (
      typeof backend.type !== 'string' ||
      typeof backend.open !== 'function' ||
      typeof backend.probe !== 'function'
    )
      throw new StowageError('invalid-argument', 'what it exports is not a backend');
    if (backend.contract !== CONTRACT_VERSION)
      throw new StowageError(
        'invalid-argument',
        `backend '${backend.type}' is for contract ${backend.contract}, this agent has ${CONTRACT_VERSION}`,
      );
    if (this.#backends.has(backend.type))
      throw new StowageError('invalid-argument', `backend '${backend.type}' is registered already`);
    this.#backends.set(backend.type, backend);
  }

  get(type: string): Backend {
    const backend = this.#backends.get(type);
    if (!backend) throw new StowageError('not-supported', `missing backend for pool type '${type}'`);
    return backend;
  }

  list(): Backend[] {
    return [...this.#backends.values()];
  }
}

/**
 * The built-in backends, and those in `directory`: each `.mjs` or `.js` file there exports `backend`. One that cannot be
 * loaded or registered is named in {@link BackendRegistry.refused}.
 */
export async function loadBackends(directory: string | undefined): Promise<BackendRegistry> {
  const registry = new BackendRegistry();
  for (const backend of [dirBackend, fsBackend, netfsBackend, logicalBackend, testBackend])
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
