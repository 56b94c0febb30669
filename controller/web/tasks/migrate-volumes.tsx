import { useQueries } from '@tanstack/react-query';
import { useState } from 'react';
import type { FleetPool, FleetVolume, Job, MigrationCheck } from '../../../shared/protocol/api.ts';
import { call, placeOfVolume, referenceOf, volumePath } from '../api/client.ts';
import { usePools } from '../api/queries.ts';
import { Task } from '../parts/dialog.tsx';
import { Check, Choice, Field } from '../parts/form.tsx';
import { counted, formatBytes } from '../parts/format.ts';
import { useSettled } from '../parts/settled.ts';
import { toast } from '../parts/toasts.tsx';
import { sizeOf } from './create-volume.tsx';
import { PoolChoice } from './pool-choice.tsx';

const sum = (values: number[]): number => values.reduce((total, value) => total + value, 0);

/** So many volumes are looked at on their hosts before they move. */
const MOST_CHECKED = 20;

/** What the hosts say now of a move: all that would refuse it. */
function Checks({
  checks,
  isSettled,
}: {
  checks: readonly { volume: FleetVolume; json: object }[];
  /** They are about what is in the form now. */
  isSettled: boolean;
}) {
  const results = useQueries({
    queries: checks.slice(0, MOST_CHECKED).map(({ volume, json }) => ({
      queryKey: ['migration-check', referenceOf(placeOfVolume(volume)), json],
      queryFn: ({ signal }: { signal: AbortSignal }) =>
        call<MigrationCheck>(`${volumePath(placeOfVolume(volume))}/migrate/check`, {
          method: 'POST',
          json,
          signal,
        }),
      staleTime: 10_000,
      retry: false,
    })),
  });
  const said = results.flatMap(({ data, error }, index) => {
    const name = checks[index]!.volume.name;
    return error
      ? [{ name, words: error.message }]
      : (data?.problems ?? []).map(({ message }) => ({ name, words: message }));
  });
  const isLooking = !isSettled || results.some(({ isPending }) => isPending);
  return (
    <ul className="plan" aria-live="polite">
      {said.map(({ name, words }) => (
        <li className="bad" key={`${name} ${words}`}>
          {checks.length > 1 && `${name}: `}
          {words}
        </li>
      ))}
      {isLooking && <li>Both ends are asked …</li>}
      {!isLooking && said.length === 0 && <li>Both ends have been asked: nothing is in the way.</li>}
      {checks.length > MOST_CHECKED && <li>Only the first {MOST_CHECKED} were looked at.</li>}
    </ul>
  );
}

/** What is known before it is begun of what a move would meet. */
function Plan({ volumes, target }: { volumes: readonly FleetVolume[]; target: FleetPool | undefined }) {
  const bytes = sum(volumes.map(({ allocationBytes }) => allocationBytes));
  const withSnapshots = volumes.filter(({ snapshotCount }) => snapshotCount > 0).length;
  return (
    <ul className="plan">
      <li>
        {formatBytes(bytes)} of data go from host to host; holes and zeros do not
        {target && `; ${target.host}/${target.name} has ${formatBytes(target.availableBytes)} left`}
      </li>
      {target && bytes > target.availableBytes && (
        <li className="bad">That is more than the target has left.</li>
      )}
      {withSnapshots > 0 && (
        <li>{counted(withSnapshots, 'volume')} with snapshots: those of the storage do not travel.</li>
      )}
      <li>The source stays until the target is whole; a move that is cut goes on by itself.</li>
    </ul>
  );
}

/** Moves or copies volumes to a pool: the jobs go on when the page is closed. */
export function MigrateVolumes({
  volumes: given,
  close,
  done,
}: {
  volumes: readonly FleetVolume[];
  close(): void;
  done(): void;
}) {
  // Those that are left.
  const [volumes, setVolumes] = useState(given);
  const [target, setTarget] = useState('');
  const [name, setName] = useState(given[0]!.name);
  // Nobody is asked at every key.
  const settledName = useSettled(name);
  const [how, setHow] = useState('move');
  const [format, setFormat] = useState('');
  const [limit, setLimit] = useState('');
  const [deleteSnapshots, setDeleteSnapshots] = useState(false);
  const pool = usePools().find((each) => `${each.host}/${each.name}` === target);
  const isOne = given.length === 1;
  const bytes = sum(volumes.map(({ allocationBytes }) => allocationBytes));
  const limitBytesPerSecond = limit === '' ? undefined : sizeOf(limit);
  /** `named`: what one volume is to be called there. */
  const asked = (volume: FleetVolume, named: string) => ({
    target: `${target}/${isOne ? named : volume.name}`,
    keepSource: how === 'copy',
    ...(format && { format }),
    deleteSnapshots,
  });
  return (
    <Task
      title={isOne ? `Move or copy ${given[0]!.name}` : `Move or copy ${counted(volumes.length, 'volume')}`}
      verb={how === 'move' ? 'Move' : 'Copy'}
      close={close}
      isReady={pool !== undefined && (limit === '' || limitBytesPerSecond !== undefined)}
      run={async (signal) => {
        let begun = 0;
        try {
          for (const volume of volumes) {
            if (signal.aborted) throw new Error('stopped: the jobs that were begun go on');
            const json = { ...asked(volume, name), ...(limitBytesPerSecond && { limitBytesPerSecond }) };
            await call<Job>(`${volumePath(placeOfVolume(volume))}/migrate`, { method: 'POST', json });
            begun++;
            setVolumes(volumes.slice(begun));
          }
        } finally {
          if (begun > 0) toast(`${counted(begun, 'job')} begun: see Jobs`);
        }
        done();
      }}
    >
      {!isOne && (
        <ul className="names">
          {volumes.slice(0, 10).map((volume) => (
            <li key={referenceOf(placeOfVolume(volume))}>{referenceOf(placeOfVolume(volume))}</li>
          ))}
          {volumes.length > 10 && <li>and {volumes.length - 10} more</li>}
        </ul>
      )}
      <Choice
        label="What"
        value={how}
        onChange={setHow}
        options={[
          { id: 'move', label: 'move: the source goes when the target is whole' },
          { id: 'copy', label: 'copy: the source stays' },
        ]}
      />
      <PoolChoice
        label="To the pool"
        value={target}
        onChange={setTarget}
        action="volume.migrate"
        refusal={({ availableBytes }) =>
          availableBytes < bytes ? `${formatBytes(bytes)} do not fit` : undefined
        }
      />
      {isOne && <Field label="Name there" value={name} onChange={setName} />}
      <Choice
        label="Format there"
        value={format}
        onChange={setFormat}
        options={[
          { id: '', label: 'as it is' },
          ...['raw', 'qcow2', 'ploop'].map((id) => ({ id, label: id })),
        ]}
      />
      <Field
        label="Speed limit per second"
        value={limit}
        onChange={setLimit}
        placeholder="such as 50M; as fast as it goes"
      />
      {how === 'move' && volumes.some(({ snapshotCount }) => snapshotCount > 0) && (
        <Check isSelected={deleteSnapshots} onChange={setDeleteSnapshots}>
          Delete snapshots that cannot be moved
        </Check>
      )}
      <Plan volumes={volumes} target={pool} />
      {pool && (
        <Checks
          checks={volumes.map((volume) => ({ volume, json: asked(volume, settledName) }))}
          isSettled={name === settledName}
        />
      )}
    </Task>
  );
}
