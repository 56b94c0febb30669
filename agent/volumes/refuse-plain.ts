import { StowageError } from '../../shared/util/errors.ts';
import type { StageSpec } from '../backends/backend.ts';
import type { FormatFacts } from '../formats/format.ts';

/** Throws `invalid-image` for a stored image that is to be an encrypted volume, and is not encrypted. */
export function refusePlain(
  { volume, encryption }: Pick<StageSpec, 'volume' | 'encryption'>,
  facts: FormatFacts,
): void {
  if (encryption && !facts.encryption)
    throw new StowageError(
      'invalid-image',
      `the image that arrived for '${volume}' is not encrypted; sent as content it becomes so`,
    );
}
