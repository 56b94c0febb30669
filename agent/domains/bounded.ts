import { type HostDomain, MOST_IMAGES } from '../../shared/protocol/domains.ts';

/** Below what the controller keeps of one. */
const MOST_CHARACTERS = 48 << 10;
const LONGEST_NAME = 1024;
const LONGEST_UUID = 64;

/**
 * As much of a domain as a line of events may hold: a configuration may say what it likes, and must not keep its host from
 * being listened to. Whether a volume is used is asked of the host itself, which knows all of it.
 */
export function bounded({ uuid, ...domain }: HostDomain): HostDomain {
  const isUuid = uuid !== undefined && uuid.length > 0 && uuid.length <= LONGEST_UUID;
  const found: HostDomain = {
    ...domain,
    name: domain.name.slice(0, LONGEST_NAME),
    ...(isUuid && { uuid }),
    images: domain.images.slice(0, MOST_IMAGES),
    uses: domain.uses.slice(0, MOST_IMAGES),
    unreadable: domain.unreadable?.slice(0, LONGEST_NAME),
  };
  while (JSON.stringify(found).length > MOST_CHARACTERS) {
    found.images = found.images.slice(0, found.images.length / 2);
    found.uses = found.uses.slice(0, found.uses.length / 2);
  }
  return found;
}
