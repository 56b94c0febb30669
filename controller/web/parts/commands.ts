import type { Place } from '../../../shared/protocol/rights.ts';
import { partsOfPath } from '../api/address.ts';
import { linkTo, type VolumePlace } from '../api/client.ts';
import { useHosts } from '../api/queries.ts';
import { useMay, WHOLE } from '../api/rights.ts';

type May = (action: string, place?: Place) => boolean;

/** What can be done to a volume: the name of its dialog, the action that it is, and what its button says. */
export const VOLUME_COMMANDS = [
  ['migrate', 'volume.migrate', 'Move or copy …'],
  ['clone', 'volume.clone', 'Clone …'],
  ['resize', 'volume.resize', 'Resize …'],
  ['rename', 'volume.rename', 'Rename …'],
  ['notes', 'volume.set-attributes', 'Notes …'],
  ['base', 'volume.set-base', 'Base …'],
  ['wipe', 'volume.wipe', 'Wipe …'],
  ['delete', 'volume.delete', 'Delete …'],
] as const;

/** What is done to nothing that is there yet. `where`: in some pool, on some host, or in the fleet as a whole. */
const NEW = [
  { to: '/volumes#create', action: 'volume.create', where: 'pool', name: 'New volume …' },
  { to: '/volumes#upload', action: 'volume.upload', where: 'pool', name: 'Upload a volume …' },
  { to: '/pools#create', action: 'pool.create', where: 'host', name: 'New pool …' },
  { to: '/hosts#add', action: 'host.add', where: 'fleet', name: 'Add a host …' },
  { to: '/people#invite', action: 'user.invite', where: 'fleet', name: 'Invite somebody …' },
  { to: '/tokens#create', action: 'token.create', where: 'fleet', name: 'New token …' },
  { to: '/secrets#create', action: 'secret.define', where: 'fleet', name: 'New secret …' },
] as const;

export interface Command {
  /** The page and, behind `#`, its dialog. */
  to: string;
  name: string;
}

/** The volume that a page of this path shows, if it is the one of a volume. */
function volumeAt(pathname: string): VolumePlace | undefined {
  const [section, host, pool, volume, more] = partsOfPath(pathname) ?? [];
  if (section !== 'volumes' || more !== undefined) return undefined;
  return host && pool && volume ? { host, pool, volume } : undefined;
}

function ofVolume(place: VolumePlace | undefined, may: May): Command[] {
  if (place === undefined) return [];
  return VOLUME_COMMANDS.filter(([, action]) => may(action, place)).map(([what, , label]) => ({
    to: `${linkTo.volume(place)}#${what}`,
    name: `${place.volume}: ${label}`,
  }));
}

/** What somebody may do from the page that is shown: to its volume, and everywhere. */
export function useCommands(): Command[] {
  const may = useMay();
  const hosts = useHosts();
  const mayThere = {
    pool: (action: string) => may(action),
    // One whose right is to a pool alone makes none.
    host: (action: string) => may(action) && hosts.some(({ name }) => may(action, { host: name })),
    fleet: (action: string) => may(action, WHOLE),
  };
  return [
    ...ofVolume(volumeAt(location.pathname), may),
    ...NEW.filter(({ where, action }) => mayThere[where](action)),
  ];
}

/** Whether what has this address is offered. */
export function useOffers(): (to: (typeof NEW)[number]['to']) => boolean {
  const commands = useCommands();
  return (to) => commands.some((command) => command.to === to);
}
