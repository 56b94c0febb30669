import { type Disk, formatDisk } from '../../shared/conf/disk/disk.ts';
import { type DomainDocument, insertDisk } from '../../shared/conf/domain-xml.ts';
import { unsupported } from '../../shared/conf/xml/values.ts';
import type { Affect } from '../../shared/protocol/domains.ts';
import type { DeviceChange } from '../../shared/protocol/lists.ts';
import { StowageError } from '../../shared/util/errors.ts';

const notValid = (why: string): StowageError =>
  new StowageError('domain-state', `Requested operation is not valid: ${why}`);

/** Which forms of a domain a change is for. Throws as virsh and libvirt do for those that do not go together. */
export function affected(
  { live, config, current, persistent }: Affect,
  domain: { running: boolean; persistent: boolean },
  change: DeviceChange,
): { live: boolean; config: boolean } {
  for (const [given, options] of [
    [live, '--current and --live'],
    [config, '--current and --config'],
    [persistent, '--persistent and --current'],
  ] as const)
    if (current && given)
      throw new StowageError('invalid-argument', `Options ${options} are mutually exclusive`);
  // Without options an update is for the domain as it is now, while attach and detach are of old for one that runs.
  const asIs = current || (change === 'update-device' && !live && !config && !persistent);
  const forms = asIs
    ? { live: domain.running, config: !domain.running }
    : {
        live: live || (persistent && domain.running) || (!config && !persistent),
        config: config || persistent,
      };
  if (forms.live && !domain.running) throw notValid('domain is not running');
  if (forms.config && !domain.persistent)
    throw notValid('transient domains do not have any persistent config');
  return forms;
}

const sameTarget = (disk: Disk) => (other: Disk) => other.target.dev === disk.target.dev;

/** Nothing but what a running guest lets go of may change. */
function updateLive(before: Disk, after: Disk): Disk {
  const removable = before.device === 'cdrom' || before.device === 'floppy';
  const source = ({ source: found, startupPolicy }: Disk): string =>
    JSON.stringify([found, startupPolicy], (_key, value) => (typeof value === 'bigint' ? `${value}` : value));
  if (source(before) !== source(after) && !removable)
    throw unsupported('disk source can be changed only in removable drives');
  const changed: Disk = {
    ...before,
    source: after.source,
    startupPolicy: after.startupPolicy,
    driver: { ...before.driver, type: after.driver.type },
    iotune: after.iotune,
    legacyPlaces: after.legacyPlaces,
    backing: after.backing,
  };
  const asked = formatDisk({ ...after, info: before.info }, { live: false });
  if (formatDisk(changed, { live: false }) !== asked)
    throw unsupported(`of the running disk '${before.target.dev}' only the medium and iotune can be changed`);
  return changed;
}

const HOTPLUGGED = ['virtio', 'scsi', 'usb', 'xen'];

/** A guest that runs gets and loses disks only on buses that tell it so. */
export function refuseColdBus({ target: { bus } }: Disk): void {
  if (!HOTPLUGGED.includes(bus)) throw unsupported(`disk bus '${bus}' cannot be hotplugged.`);
}

/** The disks of a domain after a change of one; the words of refusals are libvirt's. */
export function changeDisks(
  { disks }: DomainDocument,
  disk: Disk,
  change: DeviceChange,
  form: 'live' | 'config',
): Disk[] {
  const { dev } = disk.target;
  const at = disks.findIndex(sameTarget(disk));
  switch (change) {
    case 'attach-device':
      // Of a live domain the rules say which two disks meet.
      if (at >= 0 && form === 'config') throw notValid(`target ${dev} already exists`);
      return insertDisk(disks, disk);
    case 'detach-device':
      if (at < 0)
        throw new StowageError(
          'device-not-found',
          form === 'live'
            ? `device not found: disk ${dev} not found`
            : `device not found: no target device ${dev}`,
        );
      if (form === 'live') refuseColdBus(disks[at]!);
      return disks.toSpliced(at, 1);
    case 'update-device':
      if (at < 0)
        throw new StowageError(
          'device-not-found',
          form === 'live'
            ? `internal error: disk '${dev}' not found`
            : `invalid argument: target ${dev} doesn't exist.`,
        );
      return disks.with(at, form === 'live' ? updateLive(disks[at]!, disk) : disk);
  }
}
