import type { DomainPlace } from './domains.ts';

/** As one word, for the next page of a list. */
export function formatDomainPlace({ host, name, origin, uuid = '' }: DomainPlace): string {
  return [host, name, origin, uuid].map(encodeURIComponent).join('/');
}
