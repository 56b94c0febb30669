import { useState } from 'react';
import { Button as AriaButton, DropZone, FileTrigger, Text } from 'react-aria-components';
import { upload } from '../api/upload.ts';
import { Task } from '../parts/dialog.tsx';
import { Choice, Field } from '../parts/form.tsx';
import { formatBytes } from '../parts/format.ts';
import { toast } from '../parts/toasts.tsx';
import { PoolChoice } from './pool-choice.tsx';

export function UploadVolume({ place, close }: { place: { host?: string; pool?: string }; close(): void }) {
  const [file, setFile] = useState<File>();
  const [target, setTarget] = useState(place.pool ? `${place.host}/${place.pool}` : '');
  const [name, setName] = useState('');
  const [format, setFormat] = useState('');
  const [host = '', pool = ''] = target.split('/');
  const take = (given: File | undefined): void => {
    if (!given) return;
    setFile(given);
    setName((before) => before || given.name);
  };
  return (
    <Task
      title="Upload a volume"
      verb="Upload"
      close={close}
      isReady={file !== undefined && pool !== '' && name !== ''}
      run={async () => {
        const going = upload({ host, pool, volume: name }, file!, format || undefined);
        going.then(
          () => toast(`${target}/${name} is uploaded`),
          (error: Error) => toast(`${target}/${name}: ${error.message}`, true),
        );
      }}
    >
      <DropZone
        className="drop"
        getDropOperation={() => 'copy'}
        onDrop={async ({ items }) => {
          const [item] = items;
          if (item?.kind === 'file') take(await item.getFile());
        }}
      >
        <Text slot="label">{file ? `${file.name}, ${formatBytes(file.size)}` : 'Drop a file here, or'}</Text>
        <FileTrigger onSelect={(files) => take(files?.[0])}>
          <AriaButton className="button plain">{file ? 'Another file …' : 'Choose a file …'}</AriaButton>
        </FileTrigger>
      </DropZone>
      <PoolChoice label="Pool" value={target} onChange={setTarget} action="volume.upload" />
      <Field
        label="Name"
        value={name}
        onChange={setName}
        hint="An upload that was cut goes on when you give the same file and name again."
      />
      <Choice
        label="Format of the file"
        value={format}
        onChange={setFormat}
        options={[
          { id: '', label: 'raw; another one is recognised and refused' },
          ...['raw', 'qcow2', 'vmdk', 'vdi', 'vpc'].map((id) => ({ id, label: id })),
        ]}
      />
    </Task>
  );
}
