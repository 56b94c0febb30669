import { type ComponentProps, useState } from 'react';
import { useLocation } from 'wouter';
import { DEFAULT_LIMITS, limitsText } from '../../../shared/conf/pool-limits.ts';
import type { TrashedVolume } from '../../../shared/conf/trash.ts';
import type { PoolDetails } from '../../../shared/protocol/api.ts';
import { call, linkTo, poolPath } from '../api/client.ts';
import { client } from '../api/queries.ts';
import { Task } from '../parts/dialog.tsx';
import { Check, Field } from '../parts/form.tsx';
import { counted } from '../parts/format.ts';
import { toast } from '../parts/toasts.tsx';

interface PoolTaskProps {
  pool: PoolDetails;
  close(): void;
}

export function StopPool({ pool, close }: PoolTaskProps) {
  const { host, name } = pool;
  return (
    <Task
      title={`Stop the pool ${host}/${name}`}
      verb="Stop"
      isDanger
      close={close}
      run={async () => {
        await call(`${poolPath({ host, pool: name })}/stop`, { method: 'POST', json: {} });
        await client.invalidateQueries({ queryKey: ['pool', host, name] });
      }}
    >
      <p>
        Its {counted(pool.volumeCount, 'volume')} can be neither seen nor changed here until it is started
        again. Nothing of them is lost.
      </p>
    </Task>
  );
}

/** The percentage that somebody types; undefined while it is none. */
function percentOf(text: string): number | undefined {
  const [, number] = /^\s*(\d+(?:[.,]\d+)?)\s*%?\s*$/.exec(text) ?? [];
  return number === undefined ? undefined : Number(number.replace(',', '.'));
}

/** `hint`: while what is typed is a percentage, or nothing. */
function PercentField({ hint, value, ...field }: ComponentProps<typeof Field>) {
  const isWrong = value.trim() !== '' && percentOf(value) === undefined;
  return (
    <Field {...field} value={value} inputMode="decimal" hint={isWrong ? 'a number, such as 80' : hint} />
  );
}

export function LimitPool({ pool, close }: PoolTaskProps) {
  const { host, name } = pool;
  const now = pool.limits ?? DEFAULT_LIMITS;
  const [warning, setWarning] = useState(String(now.warningPercent));
  const [critical, setCritical] = useState(String(now.criticalPercent));
  const [provisioned, setProvisioned] = useState(String(now.provisionedPercent ?? ''));
  const [isUsual, setUsual] = useState(false);
  const [warningPercent, criticalPercent] = [percentOf(warning), percentOf(critical)];
  const provisionedPercent = percentOf(provisioned);
  return (
    <Task
      title={`Limits of ${host}/${name}`}
      verb="Save"
      close={close}
      isReady={
        isUsual ||
        (warningPercent !== undefined &&
          criticalPercent !== undefined &&
          (provisioned.trim() === '' || provisionedPercent !== undefined))
      }
      run={async () => {
        const limits = isUsual ? undefined : { warningPercent, criticalPercent, provisionedPercent };
        await call(`${poolPath({ host, pool: name })}/limits`, { method: 'PUT', json: { limits } });
        await client.invalidateQueries({ queryKey: ['pool', host, name] });
      }}
    >
      {pool.limits && (
        <Check isSelected={isUsual} onChange={setUsual}>
          The usual ones: {limitsText(DEFAULT_LIMITS)}
        </Check>
      )}
      {!isUsual && (
        <>
          <PercentField label="Warning, at percent in use" value={warning} onChange={setWarning} autoFocus />
          <PercentField label="Critical, at percent in use" value={critical} onChange={setCritical} />
          <PercentField
            label="Volumes together, in percent of the pool"
            value={provisioned}
            onChange={setProvisioned}
            hint="the most that may be promised to them; no limit without a number"
          />
        </>
      )}
    </Task>
  );
}

export function PurgeTrashed({
  pool: { host, name },
  trashed: { id, volume },
  close,
}: PoolTaskProps & { trashed: TrashedVolume }) {
  return (
    <Task
      title={`Delete ${volume.name} for ever`}
      verb="Delete for ever"
      isDanger
      close={close}
      run={async () => {
        await call(`${poolPath({ host, pool: name })}/trash/${id}`, { method: 'DELETE' });
        toast(`${volume.name} is gone`);
        await client.invalidateQueries({ queryKey: ['trash', host, name] });
      }}
    >
      <p>
        It goes from the trash of {host}/{name}, with its snapshots, and does not come back.
      </p>
    </Task>
  );
}

/** What goes with a pool when its storage is to go, by its type; of others nothing can. All of it must be empty. */
const STORAGE: Record<string, string> = {
  dir: 'its directory',
  fs: 'the directory that it is mounted on',
  netfs: 'the directory that it is mounted on',
  vstorage: 'the directory that it is mounted on',
  btrfs: 'its directory',
  logical: 'its volume group or thin pool',
  zfs: 'its zpool',
};

export function DeletePool({ pool, close }: PoolTaskProps) {
  const { host, name, type } = pool;
  const [, navigate] = useLocation();
  const [storage, setStorage] = useState(false);
  return (
    <Task
      title={`Delete the pool ${host}/${name}`}
      verb="Delete"
      isDanger
      close={close}
      toType={{ what: 'the name', text: name }}
      run={async () => {
        await call(`${poolPath({ host, pool: name })}?storage=${storage}`, { method: 'DELETE' });
        toast(`pool ${host}/${name} is deleted`);
        navigate(linkTo.host(host));
      }}
    >
      <p>
        It is forgotten here. Its volumes stay where they are, and are there again in a new pool of the place.
      </p>
      {STORAGE[type] !== undefined && (
        <Check isSelected={storage} onChange={setStorage}>
          Remove {STORAGE[type]}, too, which must be empty
        </Check>
      )}
    </Task>
  );
}
