import { useState } from 'react';
import { Button as AriaButton, DropZone, FileTrigger, Text } from 'react-aria-components';
import { VOLUME_FORMATS } from '../../../shared/conf/image-formats.ts';
import { ApiError, call, referenceOf, volumePath } from '../api/client.ts';
import { upload } from '../api/upload.ts';
import { Problem } from '../parts/basics.tsx';
import { Task } from '../parts/dialog.tsx';
import { Choice, Field } from '../parts/form.tsx';
import { formatBytes } from '../parts/format.ts';
import { toast } from '../parts/toasts.tsx';
import { PoolChoice } from './pool-choice.tsx';

/** How the files of formats begin; of vdi behind a text for people. */
const MAGIC: [string, number, string][] = [
  ['qcow2', 0, 'QFI\xfb'],
  ['vmdk', 0, 'KDMV'],
  ['vdi', 64, '\x7f\x10\xda\xbe'],
  ['vpc', 0, 'conectix'],
  ['luks', 0, 'LUKS\xba\xbe'],
];

/** The format that the first bytes of a file tell; undefined where they are those of no container. */
async function formatOf(file: File): Promise<string | undefined> {
  const bytes = new Uint8Array(await file.slice(0, 128).arrayBuffer());
  const text = String.fromCharCode(...bytes);
  return MAGIC.find(([, at, magic]) => text.startsWith(magic, at))?.[0];
}

export function UploadVolume({ place, close }: { place: { host?: string; pool?: string }; close(): void }) {
  const [file, setFile] = useState<File>();
  const [target, setTarget] = useState(place.pool ? `${place.host}/${place.pool}` : '');
  const [name, setName] = useState('');
  const [format, setFormat] = useState('');
  /** The format of the file, where no volume can have it. */
  const [foreign, setForeign] = useState<string>();
  const [host = '', pool = ''] = target.split('/');
  const take = (given: File | undefined): void => {
    if (!given) return;
    setFile(given);
    setName((before) => before || given.name);
    // A file that cannot be read is told of when it is sent.
    formatOf(given).then(
      (found = '') => {
        const canBe = found === '' || VOLUME_FORMATS.some((each) => each === found);
        setFormat(canBe ? found : '');
        setForeign(canBe ? undefined : found);
      },
      () => undefined,
    );
  };
  return (
    <Task
      title="Upload a volume"
      verb="Upload"
      close={close}
      isReady={file !== undefined && foreign === undefined && pool !== '' && name !== ''}
      run={async () => {
        const place = { host, pool, volume: name };
        const isThere = await call(volumePath(place)).then(
          () => true,
          (error: ApiError) => {
            if (error.code === 'volume-not-found') return false;
            throw error;
          },
        );
        if (isThere)
          throw new ApiError(
            'volume-exists',
            `there is a volume '${referenceOf(place)}' already: take another name`,
            409,
          );
        const going = upload({ host, pool, volume: name }, file!, format || undefined);
        going.then(
          (end) =>
            toast(end === 'done' ? `${target}/${name} is uploaded` : `the upload of ${name} was cancelled`),
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
      {foreign !== undefined && (
        <Problem
          error={`This is a ${foreign} image, which no volume can be. Make another one of it first: qemu-img convert -O qcow2 ${file?.name ?? 'FILE'} NEW`}
        />
      )}
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
          { id: '', label: 'raw' },
          ...VOLUME_FORMATS.filter((id) => id !== 'ploop').map((id) => ({ id, label: id })),
        ]}
      />
    </Task>
  );
}
