import type { PoolDefinition } from '../../shared/conf/pool.ts';
import type { PoolSource } from '../../shared/conf/pool-source.ts';
import { StowageError } from '../../shared/util/errors.ts';

/** The directory of a pool of files. Throws `invalid-argument` where the definition has none. */
export function targetOf({ type, target }: PoolDefinition): string {
  if (target.path === undefined)
    throw new StowageError('invalid-argument', `pools of type '${type}' need a target directory`);
  const { mode = 0, owner = process.getuid?.() } = target.permissions ?? {};
  if (owner !== process.getuid?.() || (mode & 0o022) !== 0)
    throw new StowageError(
      'not-supported',
      'a pool whose directory others may write to cannot be here: they could replace what the agent keeps in it',
    );
  return target.path;
}

/** Throws `not-supported` for parts of a source that pools of this type do not have here. */
export function refuseSourceBut({ type, source }: PoolDefinition, allowed: (keyof PoolSource)[]): void {
  for (const [part, value] of Object.entries(source)) {
    const given = Array.isArray(value) ? value.length > 0 : value !== undefined;
    if (given && !(allowed as string[]).includes(part))
      throw new StowageError('not-supported', `pools of type '${type}' cannot have <source> (${part}) here`);
  }
}
