import type { Place } from '../../../shared/protocol/rights.ts';
import { linkTo, type VolumePlace } from '../api/client.ts';
import { WHOLE } from '../api/rights.ts';

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

/** What is done to nothing that is there yet. */
const NEW = [
  { to: '/volumes#create', action: 'volume.create', name: 'New volume …' },
  { to: '/volumes#upload', action: 'volume.upload', name: 'Upload a volume …' },
  { to: '/pools#create', action: 'pool.create', name: 'New pool …' },
  { to: '/hosts#add', action: 'host.add', name: 'Add a host …' },
  { to: '/people#invite', action: 'user.invite', place: WHOLE, name: 'Invite somebody …' },
  { to: '/tokens#create', action: 'token.create', place: WHOLE, name: 'New token …' },
  { to: '/secrets#create', action: 'secret.define', place: WHOLE, name: 'New secret …' },
];

export interface Command {
  /** The page and, behind `#`, its dialog. */
  to: string;
  name: string;
}

/** The volume that a page of this path shows, if it is the one of a volume. */
function volumeAt(pathname: string): VolumePlace | undefined {
  const [, section, host = '', pool = '', volume] = pathname.split('/');
  if (section !== 'volumes' || volume === undefined) return undefined;
  try {
    return {
      host: decodeURIComponent(host),
      pool: decodeURIComponent(pool),
      volume: decodeURIComponent(volume),
    };
  } catch {
    return undefined;
  }
}

/** What somebody may do from a page of this path: to the volume that it shows, and everywhere. */
export function commandsFor(pathname: string, may: (action: string, place?: Place) => boolean): Command[] {
  const place = volumeAt(pathname);
  const ofVolume =
    place !== undefined
      ? VOLUME_COMMANDS.filter(([, action]) => may(action, place)).map(([what, , label]) => ({
          to: `${linkTo.volume(place)}#${what}`,
          name: `${place.volume}: ${label}`,
        }))
      : [];
  return [...ofVolume, ...NEW.filter(({ action, place }) => may(action, place))];
}
