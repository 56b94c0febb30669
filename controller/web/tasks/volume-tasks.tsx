import { useState } from 'react';
import { useLocation } from 'wouter';
import { WIPE_ALGORITHMS } from '../../../shared/conf/wipe-algorithms.ts';
import type { Job, VolumeDetails } from '../../../shared/protocol/api.ts';
import { call, linkTo, placeOfVolume, referenceOf, volumePath } from '../api/client.ts';
import { Task } from '../parts/dialog.tsx';
import { Check, Choice, Field } from '../parts/form.tsx';
import { formatBytes } from '../parts/format.ts';
import { toast } from '../parts/toasts.tsx';
import { sizeOf } from './create-volume.tsx';

interface VolumeTaskProps {
  volume: VolumeDetails;
  close(): void;
}

export function ResizeVolume({ volume, close }: VolumeTaskProps) {
  const [size, setSize] = useState(String(volume.capacityBytes));
  const [shrink, setShrink] = useState(false);
  const capacityBytes = sizeOf(size);
  const isSmaller = capacityBytes !== undefined && capacityBytes < volume.capacityBytes;
  const place = placeOfVolume(volume);
  return (
    <Task
      title={`Resize ${volume.name}`}
      verb="Resize"
      isDanger={isSmaller}
      close={close}
      isReady={
        capacityBytes !== undefined && capacityBytes !== volume.capacityBytes && (!isSmaller || shrink)
      }
      run={async () => {
        await call(`${volumePath(place)}/resize`, { method: 'POST', json: { capacityBytes, shrink } });
        toast(`${volume.name} has ${formatBytes(capacityBytes!)} now`);
      }}
    >
      <Field
        label="Capacity"
        value={size}
        onChange={setSize}
        hint={capacityBytes === undefined ? 'such as 10G' : formatBytes(capacityBytes)}
        autoFocus
      />
      {isSmaller && (
        <Check isSelected={shrink} onChange={setShrink}>
          Make it smaller: what lies behind the new end is lost
        </Check>
      )}
    </Task>
  );
}

export function CloneVolume({ volume, close }: VolumeTaskProps) {
  const [name, setName] = useState(`${volume.name}-clone`);
  const [linked, setLinked] = useState(volume.isBase ?? false);
  const place = placeOfVolume(volume);
  return (
    <Task
      title={`Clone ${volume.name}`}
      verb="Clone"
      close={close}
      isReady={name !== '' && name !== volume.name}
      run={async () => {
        const job = await call<Job>(`${volumePath(place)}/clone`, { method: 'POST', json: { name, linked } });
        toast(`job ${job.id} clones ${volume.name}`);
      }}
    >
      <Field label="Name of the clone, in the same pool" value={name} onChange={setName} autoFocus />
      {volume.isBase && (
        <Check isSelected={linked} onChange={setLinked}>
          Linked: it stands on this base and takes room only for what differs
        </Check>
      )}
    </Task>
  );
}

export function RenameVolume({ volume, close }: VolumeTaskProps) {
  const [, navigate] = useLocation();
  const [name, setName] = useState(volume.name);
  const place = placeOfVolume(volume);
  return (
    <Task
      title={`Rename ${volume.name}`}
      verb="Rename"
      close={close}
      isReady={name !== '' && name !== volume.name}
      run={async () => {
        await call(`${volumePath(place)}/rename`, { method: 'POST', json: { name } });
        navigate(linkTo.volume({ ...place, volume: name }), { replace: true });
      }}
    >
      <Field label="Name" value={name} onChange={setName} autoFocus />
    </Task>
  );
}

export function WipeVolume({ volume, close }: VolumeTaskProps) {
  const [algorithm, setAlgorithm] = useState('zero');
  const place = placeOfVolume(volume);
  return (
    <Task
      title={`Wipe ${referenceOf(place)}`}
      verb="Wipe"
      isDanger
      close={close}
      toType={{ what: 'the name', text: volume.name }}
      run={async () => {
        const job = await call<Job>(`${volumePath(place)}/wipe`, { method: 'POST', json: { algorithm } });
        toast(`job ${job.id} wipes ${volume.name}`);
      }}
    >
      <p>All that is in it is overwritten and lost; the volume stays.</p>
      <Choice
        label="Algorithm"
        value={algorithm}
        onChange={setAlgorithm}
        options={WIPE_ALGORITHMS.map((id) => ({ id, label: id }))}
      />
    </Task>
  );
}

/** Makes a base of a volume, or a volume of a base again. */
export function BaseVolume({ volume, close }: VolumeTaskProps) {
  const isBase = !volume.isBase;
  return (
    <Task
      title={isBase ? `Make a base of ${volume.name}` : `Make ${volume.name} a volume again`}
      verb={isBase ? 'Make it a base' : 'Make it a volume again'}
      close={close}
      run={async () => {
        await call(`${volumePath(placeOfVolume(volume))}/base`, { method: 'PUT', json: { isBase } });
        toast(isBase ? `${volume.name} is a base` : `${volume.name} is no base any more`);
      }}
    >
      <p>
        {isBase
          ? 'A base takes no write. Linked clones stand on it, and take room only for what differs.'
          : 'It takes writes again. No linked clone may stand on it.'}
      </p>
    </Task>
  );
}

export function SnapshotVolume({ volume, close }: VolumeTaskProps) {
  const [id, setId] = useState('');
  const place = placeOfVolume(volume);
  return (
    <Task
      title={`Snapshot of ${volume.name}`}
      verb="Take the snapshot"
      close={close}
      run={async () => {
        const made = await call<{ id: string }>(`${volumePath(place)}/snapshots`, {
          method: 'POST',
          json: id === '' ? {} : { id },
        });
        toast(`snapshot ${made.id} is taken`);
      }}
    >
      <Field label="Name" value={id} onChange={setId} hint="One is made up where you give none." autoFocus />
    </Task>
  );
}

/** Goes back to a snapshot, or deletes one. */
export function SnapshotTask({
  volume,
  snapshot,
  what,
  close,
}: VolumeTaskProps & { snapshot: string; what: 'switch' | 'delete' }) {
  const path = `${volumePath(placeOfVolume(volume))}/snapshots/${encodeURIComponent(snapshot)}`;
  const isSwitch = what === 'switch';
  return (
    <Task
      title={isSwitch ? `Go back to ${snapshot}` : `Delete the snapshot ${snapshot}`}
      verb={isSwitch ? 'Go back' : 'Delete'}
      isDanger
      close={close}
      toType={isSwitch ? { what: 'the name', text: volume.name } : undefined}
      run={async () => {
        await (isSwitch
          ? call(`${path}/switch`, { method: 'POST', json: {} })
          : call(path, { method: 'DELETE' }));
        toast(isSwitch ? `${volume.name} is as in ${snapshot}` : `snapshot ${snapshot} is deleted`);
      }}
    >
      {isSwitch ? (
        <p>The present content of {volume.name} is lost.</p>
      ) : (
        <p>The present content stays; only this state goes.</p>
      )}
    </Task>
  );
}

export function EditNotes({ volume, close }: VolumeTaskProps) {
  const [notes, setNotes] = useState(volume.notes ?? '');
  const [isProtected, setProtected] = useState(volume.isProtected ?? false);
  return (
    <Task
      title={`Notes and protection of ${volume.name}`}
      verb="Save"
      close={close}
      run={async () => {
        const json = { notes, isProtected };
        await call(`${volumePath(placeOfVolume(volume))}/attributes`, { method: 'PATCH', json });
      }}
    >
      <Field label="Notes" value={notes} onChange={setNotes} autoFocus />
      <Check isSelected={isProtected} onChange={setProtected}>
        Protected: it is not deleted, wiped, replaced or moved away
      </Check>
    </Task>
  );
}
