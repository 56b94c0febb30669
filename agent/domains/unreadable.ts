import type { Domain } from '../../shared/protocol/domains.ts';
import type { Configuration } from '../host/configurations.ts';

/** The name of what stands for all domains of an origin. */
export const ALL = '?';

const ENTITIES: Record<string, string> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" };

/**
 * A domain whose configuration nobody here understands. Whatever in it looks like a path counts as used: better a volume is
 * kept that could go than the other way round.
 */
export function unreadable(origin: Domain['origin'], { name, text }: Configuration, error: unknown): Domain {
  const paths = new Set(
    [...text.matchAll(/["'>]\s*(\/[^"'<>\n]+)/g)].map(([, path]) =>
      path!.trim().replaceAll(/&(\w+);/g, (all, entity: string) => ENTITIES[entity] ?? all),
    ),
  );
  const images = [...paths].map((path) => ({ target: '?', role: 'disk' as const, path }));
  return { ...unknown(origin, name, error), images };
}

/** What is there and cannot be read at all. */
export function unknown(origin: Domain['origin'], name: string, error: unknown): Domain {
  const why = error instanceof Error ? error.message : String(error);
  return { name, origin, state: 'unknown', persistent: true, images: [], unreadable: why };
}

/** Whether a domain stands for all of an origin, whose configurations cannot be read at all. */
export const isHidden = ({ name, unreadable }: Pick<Domain, 'name' | 'unreadable'>): boolean =>
  name === ALL && unreadable !== undefined;
