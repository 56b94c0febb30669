import type { PoolDefinition } from '../../shared/conf/pool.ts';
import { StowageError } from '../../shared/util/errors.ts';

/** The secret that a pool was given. Throws `secret-missing`. */
export function givenSecret({ name, source }: PoolDefinition, secret: string | undefined): string {
  if (secret !== undefined) return secret;
  const { secret: reference } = source.auth ?? {};
  const words = reference && ('uuid' in reference ? reference.uuid : `'${reference.usage}'`);
  throw new StowageError(
    'secret-missing',
    `pool '${name}' waits for its secret${words ? ` ${words}` : ''}; see: stowage secret define`,
  );
}
