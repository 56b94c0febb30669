import { useState } from 'react';
import { ApiError, call, referenceOf, type VolumePlace, volumePath } from '../api/client.ts';
import { Task } from '../parts/dialog.tsx';
import { Check, Choice } from '../parts/form.tsx';
import { counted } from '../parts/format.ts';
import { toast } from '../parts/toasts.tsx';

const KEEP_DAYS = ['7', '30', '90'];
const DAY_S = 24 * 3600;

/** Deletes volumes: one that is deleted for ever is named again first, many are counted. */
export function DeleteVolumes({
  volumes: given,
  close,
  done,
}: {
  volumes: readonly VolumePlace[];
  close(): void;
  done(): void;
}) {
  // Those that are left.
  const [volumes, setVolumes] = useState(given);
  const [way, setWay] = useState('trash');
  const [days, setDays] = useState('7');
  const [deleteSnapshots, setDeleteSnapshots] = useState(false);
  const isTrash = way === 'trash';
  const [one] = volumes;
  const asked =
    volumes.length === 1
      ? { what: 'the name', text: one!.volume }
      : { what: 'how many', text: String(volumes.length) };
  return (
    <Task
      title={
        volumes.length === 1 ? `Delete ${referenceOf(one!)}` : `Delete ${counted(volumes.length, 'volume')}`
      }
      verb={isTrash ? 'Move to the trash' : 'Delete for ever'}
      isDanger
      close={close}
      toType={isTrash ? undefined : asked}
      run={async (signal) => {
        for (const [count, place] of volumes.entries()) {
          if (signal.aborted) throw new Error(`stopped: ${count} of ${volumes.length} are deleted`);
          await (isTrash
            ? call(`${volumePath(place)}/trash`, {
                method: 'POST',
                json: { keepSeconds: Number(days) * DAY_S },
              })
            : call(`${volumePath(place)}?deleteSnapshots=${deleteSnapshots}`, { method: 'DELETE' })
          ).catch((error: ApiError) => {
            throw new ApiError(error.code, `${referenceOf(place)}: ${error.message}`, error.status);
          });
          // What is done is not tried again after an error of the next.
          setVolumes(volumes.slice(count + 1));
        }
        toast(`${counted(volumes.length, 'volume')} ${isTrash ? 'moved to the trash' : 'deleted'}`);
        done();
      }}
    >
      {volumes.length > 1 && (
        <ul className="names">
          {volumes.slice(0, 10).map((place) => (
            <li key={referenceOf(place)}>{referenceOf(place)}</li>
          ))}
          {volumes.length > 10 && <li>and {volumes.length - 10} more</li>}
        </ul>
      )}
      <Choice
        label="How"
        value={way}
        onChange={setWay}
        options={[
          { id: 'trash', label: 'into the trash of the pool, from where it can be restored' },
          { id: 'delete', label: 'for ever' },
        ]}
      />
      {isTrash ? (
        <Choice
          label="Kept for"
          value={days}
          onChange={setDays}
          options={KEEP_DAYS.map((id) => ({ id, label: `${id} days at least` }))}
        />
      ) : (
        <Check isSelected={deleteSnapshots} onChange={setDeleteSnapshots}>
          With snapshots
        </Check>
      )}
    </Task>
  );
}
