import { readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { StowageError } from '../../shared/util/errors.ts';
import { type Backend, CONTRACT_VERSION } from './backend.ts';
import { dirBackend } from './dir/index.ts';

/** The backends of this agent, by pool type. */
export class BackendRegistry {
  readonly #backends = new Map<string, Backend>();

  /** Throws `invalid-argument` for a second backend of one type and for one written for another contract. */
  register(backend: Backend): void {
    if (backend.contract !== CONTRACT_VERSION) {
      throw new StowageError(
        'invalid-argument',
        `backend '${backend.type}' is for contract ${backend.contract}, this agent has ${CONTRACT_VERSION}`,
      );
    }
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

/** The built-in backends, and those in `directory`: each `.mjs` or `.js` file there exports `backend`. */
export async function loadBackends(directory: string | undefined): Promise<BackendRegistry> {
  const registry = new BackendRegistry();
  for (const backend of [dirBackend]) registry.register(backend);
  if (!directory) return registry;
  const files = (await readdir(directory)).filter((file) => /\.m?js$/.test(file)).sort();
  for (const file of files) {
    const module: { backend?: Backend } = await import(pathToFileURL(resolve(join(directory, file))).href);
    if (!module.backend) throw new StowageError('invalid-argument', `${file} does not export a backend`);
    registry.register(module.backend);
  }
  return registry;
}
