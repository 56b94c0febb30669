import { useState } from 'react';
import { useLocation } from 'wouter';
import { DEFAULT_LIMITS } from '../../../shared/conf/usual-limits.ts';
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

/** The number that somebody types; undefined while it is none. */
const numberOf = (text: string): number | undefined =>
  /^\d+(\.\d+)?$/.test(text) ? Number(text) : undefined;

export function LimitPool({ pool, close }: PoolTaskProps) {
  const { host, name } = pool;
  const now = pool.limits ?? DEFAULT_LIMITS;
  const [warning, setWarning] = useState(String(now.warningPercent));
  const [critical, setCritical] = useState(String(now.criticalPercent));
  const [provisioned, setProvisioned] = useState(String(now.provisionedPercent ?? ''));
  const [warningPercent, criticalPercent] = [numberOf(warning), numberOf(critical)];
  const provisionedPercent = numberOf(provisioned);
  return (
    <Task
      title={`Limits of ${host}/${name}`}
      verb="Save"
      close={close}
      isReady={
        warningPercent !== undefined &&
        criticalPercent !== undefined &&
        (provisioned === '' || provisionedPercent !== undefined)
      }
      run={async () => {
        const limits = { warningPercent, criticalPercent, provisionedPercent };
        await call(`${poolPath({ host, pool: name })}/limits`, { method: 'PUT', json: { limits } });
        await client.invalidateQueries({ queryKey: ['pool', host, name] });
      }}
    >
      <Field
        label="Warning, at percent in use"
        value={warning}
        onChange={setWarning}
        inputMode="numeric"
        autoFocus
      />
      <Field
        label="Critical, at percent in use"
        value={critical}
        onChange={setCritical}
        inputMode="numeric"
      />
      <Field
        label="Volumes together, in percent of the pool"
        value={provisioned}
        onChange={setProvisioned}
        inputMode="numeric"
        hint="the most that is promised to them; as many as fit when empty"
      />
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
