import { useState } from 'react';
import { useLocation } from 'wouter';
import { ENCRYPTABLE_FORMATS, VOLUME_FORMATS } from '../../../shared/conf/image-formats.ts';
import type { FleetVolume } from '../../../shared/protocol/api.ts';
import { parseSize } from '../../../shared/util/units.ts';
import { call, linkTo, poolPath } from '../api/client.ts';
import { Task } from '../parts/dialog.tsx';
import { Check, Choice, Field } from '../parts/form.tsx';
import { formatBytes } from '../parts/format.ts';
import { toast } from '../parts/toasts.tsx';
import { PoolChoice } from './pool-choice.tsx';

/** The bytes of a size that somebody types; undefined while it is none. */
export function sizeOf(text: string): number | undefined {
  try {
    return parseSize(text);
  } catch {
    return undefined;
  }
}

export function CreateVolume({ place, close }: { place: { host?: string; pool?: string }; close(): void }) {
  const [, navigate] = useLocation();
  const [target, setTarget] = useState(place.pool ? `${place.host}/${place.pool}` : '');
  const [name, setName] = useState('');
  const [size, setSize] = useState('10G');
  const [format, setFormat] = useState('qcow2');
  const [preallocate, setPreallocate] = useState(false);
  const [secret, setSecret] = useState('');
  const capacityBytes = sizeOf(size);
  const [host = '', pool = ''] = target.split('/');
  return (
    <Task
      title="New volume"
      verb="Create"
      close={close}
      isReady={
        name !== '' && pool !== '' && capacityBytes !== undefined && (format !== 'luks' || secret !== '')
      }
      run={async () => {
        const isEncrypted = ENCRYPTABLE_FORMATS.includes(format) && secret !== '';
        const json = { name, format, capacityBytes, preallocate, ...(isEncrypted && { secret }) };
        const made = await call<FleetVolume & { warnings?: string[] }>(
          `${poolPath({ host, pool })}/volumes`,
          {
            method: 'POST',
            json,
          },
        );
        for (const warning of made.warnings ?? []) toast(warning, true);
        toast(`${target}/${name} is there`);
        navigate(linkTo.volume({ host, pool, volume: name }));
      }}
    >
      <PoolChoice label="Pool" value={target} onChange={setTarget} action="volume.create" />
      <Field label="Name" value={name} onChange={setName} isRequired autoFocus />
      <Field
        label="Capacity"
        value={size}
        onChange={setSize}
        hint={capacityBytes === undefined ? 'such as 10G, 512M or 1.5T' : formatBytes(capacityBytes)}
      />
      <Choice
        label="Format"
        value={format}
        onChange={setFormat}
        options={VOLUME_FORMATS.map((id) => ({
          id,
          label: id === 'luks' ? 'luks: raw, encrypted' : id,
        }))}
      />
      {ENCRYPTABLE_FORMATS.includes(format) && (
        <Field
          label="Encrypt with the secret"
          value={secret}
          onChange={setSecret}
          isRequired={format === 'luks'}
          hint={`its usage or UUID, not the passphrase${format === 'luks' ? '' : '; not encrypted without one'}`}
        />
      )}
      <Check isSelected={preallocate} onChange={setPreallocate}>
        Reserve all of its space now
      </Check>
    </Task>
  );
}
