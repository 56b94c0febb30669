import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { useLocation } from 'wouter';
import { isPoolType, POOL_TYPES, type PoolType } from '../../../shared/conf/pool-types.ts';
import type { FleetPool } from '../../../shared/protocol/api.ts';
import { call, hostPath, linkTo } from '../api/client.ts';
import { hostQuery, useHosts } from '../api/queries.ts';
import { useMay } from '../api/rights.ts';
import { Task } from '../parts/dialog.tsx';
import { Check, Choice, Field, TextArea } from '../parts/form.tsx';
import { SearchedChoice } from '../parts/searched-choice.tsx';
import { toast } from '../parts/toasts.tsx';

/** Of what a pool is made. */
const PARTS = {
  host: { label: 'Servers', hint: 'names or addresses, with :PORT where it is not the usual one' },
  dir: { label: 'Directory there', hint: 'the export of a server, such as /export/images' },
  name: { label: 'Source', hint: 'a volume group, GROUP/THINPOOL, zpool, pool of Ceph, volume of gluster' },
  device: { label: 'Devices', hint: 'paths on the host, or the IQN of a target' },
  adapter: { label: 'Adapter', hint: 'such as scsi_host3' },
  initiator: { label: 'Initiator', hint: 'the IQN that we say that we are' },
};
type Part = keyof typeof PARTS;
type Given = Partial<Record<Part, string>>;

/** What is asked for a type. */
interface Form {
  needs?: readonly Part[];
  takes?: readonly Part[];
  /** Its servers may ask for a user and a secret. */
  login?: 'chap' | 'ceph';
  /** Where its volumes are on the host, unless told otherwise; null where that is not told. */
  target?: string | null;
  /** Its storage can be made new on its devices. */
  isMade?: true;
}

/** Other types, and all that is more, can be said by a document. */
const FORMS: Record<string, Form> = {
  dir: {},
  fs: { needs: ['device'], isMade: true },
  netfs: { needs: ['host', 'dir'] },
  logical: { needs: ['name'], takes: ['device'], target: null, isMade: true },
  disk: { needs: ['device'], target: '/dev', isMade: true },
  iscsi: { needs: ['host', 'device'], login: 'chap', target: '/dev/disk/by-path' },
  'iscsi-direct': { needs: ['host', 'device', 'initiator'], login: 'chap', target: null },
  scsi: { needs: ['adapter'], target: '/dev/disk/by-path' },
  mpath: { target: '/dev/mapper' },
  rbd: { needs: ['host', 'name'], login: 'ceph', target: null },
  gluster: { needs: ['host', 'name'], takes: ['dir'], target: null },
  zfs: { needs: ['name'], takes: ['device'], target: null, isMade: true },
  vstorage: { needs: ['name'] },
  btrfs: {},
  proxmox: {},
};
const DOCUMENT = 'document';

/** What is done with devices on which something, or nothing, is. */
const MAKING = [
  { id: 'keep', label: 'it is there: use it as it is' },
  { id: 'make', label: 'make it, unless something is there' },
  { id: 'overwrite', label: 'make it, and overwrite whatever is there' },
];
const OVERWRITE: Record<string, boolean | undefined> = { make: false, overwrite: true };

const words = (text = ''): string[] => text.split(/[\s,]+/).filter((word) => word !== '');

const serverOf = (text: string) => {
  const [, name = text, port] = /^(.*[^:]):(\d{1,5})$/.exec(text) ?? [];
  return { name, port: port === undefined ? undefined : Number(port) };
};

interface Login {
  user: string;
  usage: string;
}

/** Only of what the form of the type asks for: what was typed for another type stays out. */
function sourceOf(
  { needs = [], takes = [], login }: Form,
  all: Given,
  format: string,
  { user, usage }: Login,
) {
  const given: Given = Object.fromEntries([...needs, ...takes].map((part) => [part, all[part]]));
  return {
    hosts: words(given.host).map(serverOf),
    devices: words(given.device).map((path) => ({ path })),
    dir: given.dir || undefined,
    name: given.name || undefined,
    adapter: given.adapter ? { type: 'scsi_host', name: given.adapter } : undefined,
    initiatorIqn: given.initiator || undefined,
    format: format || undefined,
    auth: login && user !== '' ? { type: login, username: user, secret: { usage } } : undefined,
  };
}

/** Makes a pool on a host: of fields, or of a document. */
export function CreatePool({ host: given = '', close }: { host?: string; close(): void }) {
  const [, navigate] = useLocation();
  const may = useMay();
  const hosts = useHosts();
  const [host, setHost] = useState(given || (hosts.length === 1 ? hosts[0]!.name : ''));
  const [type, setType] = useState('dir');
  const [name, setName] = useState('');
  const [parts, setParts] = useState<Given>({});
  const [format, setFormat] = useState('');
  const [target, setTarget] = useState('');
  const [user, setUser] = useState('');
  const [usage, setUsage] = useState('');
  const [xml, setXml] = useState('');
  const [autostart, setAutostart] = useState(true);
  const [making, setMaking] = useState('keep');
  const { data } = useQuery({ ...hostQuery(host), enabled: host !== '' });
  const backends = data?.agent?.backends ?? [];
  const isDocument = type === DOCUMENT;
  const form = FORMS[type] ?? {};
  const { needs = [], takes = [], login } = form;
  const kind: PoolType | undefined = isPoolType(type) ? POOL_TYPES[type] : undefined;
  const formats = [...(kind?.formats ?? []), ...(kind?.ownFormats ?? [])];
  const hasTarget = form.target !== null;
  const path = target || form.target || '';
  const overwrites = form.isMade && making === 'overwrite';
  const isSaid =
    name !== '' &&
    (!hasTarget || path !== '') &&
    needs.every((part) => words(parts[part]).length > 0) &&
    (!login || (user === '') === (usage === '')) &&
    // Which file system is to be made nobody else can know.
    !(type === 'fs' && making !== 'keep' && format === '');
  const isReady = host !== '' && (isDocument ? xml !== '' : isSaid);
  return (
    <Task
      title="New pool"
      verb={overwrites ? 'Overwrite and make the pool' : 'Make the pool'}
      isDanger={overwrites}
      close={close}
      isReady={isReady}
      run={async () => {
        const definition = {
          ...{ name, type, overwrite: form.isMade && OVERWRITE[making] },
          source: sourceOf(form, parts, format, { user, usage }),
          target: hasTarget ? { path } : {},
        };
        const json = { autostart, ...(isDocument ? { xml } : definition) };
        const made = await call<FleetPool>(`${hostPath(host)}/pools`, { method: 'POST', json });
        toast(`pool ${host}/${made.name} is ${made.state}`);
        navigate(linkTo.pool(host, made.name));
      }}
    >
      <SearchedChoice
        label="Host"
        value={host}
        onChange={setHost}
        options={hosts.map((each) => ({
          id: each.name,
          label: each.name,
          reason: !may('pool.create', { host: each.name })
            ? 'you may not do this there'
            : each.state === 'reachable'
              ? undefined
              : `it is ${each.state}`,
        }))}
      />
      <Choice
        label="Type"
        value={type}
        onChange={(value) => {
          setType(value);
          setFormat('');
          setMaking('keep');
        }}
        options={[
          ...(backends.length > 0
            ? backends
                .filter((backend) => FORMS[backend.type])
                .map((backend) => ({
                  id: backend.type,
                  label: backend.type,
                  reason: backend.usable ? undefined : (backend.reason ?? 'it does not work there'),
                }))
            : [{ id: 'dir', label: 'dir' }]),
          { id: DOCUMENT, label: "from libvirt's document" },
        ]}
      />
      {isDocument ? (
        <TextArea label="Document" value={xml} onChange={setXml} placeholder="<pool type='dir'> …" />
      ) : (
        <>
          <Field label="Name" value={name} onChange={setName} autoFocus isRequired />
          {[...needs, ...takes].map((part) => (
            <Field
              key={part}
              label={PARTS[part].label}
              hint={PARTS[part].hint}
              value={parts[part] ?? ''}
              onChange={(value) => setParts({ ...parts, [part]: value })}
              isRequired={needs.includes(part)}
            />
          ))}
          {formats.length > 0 && (
            <Choice
              label="Format"
              value={format}
              onChange={setFormat}
              options={[{ id: '', label: 'the usual one' }, ...formats.map((id) => ({ id, label: id }))]}
            />
          )}
          {hasTarget && (
            <Field
              label="Target"
              value={target}
              onChange={setTarget}
              hint="where its volumes are on the host"
              placeholder={form.target ?? `/srv/stowage/${name || 'NAME'}`}
              isRequired={form.target === undefined}
            />
          )}
          {login && (
            <>
              <Field label="User" value={user} onChange={setUser} hint="where the servers ask for one" />
              {user !== '' && (
                <Field
                  label="Secret"
                  value={usage}
                  onChange={setUsage}
                  hint="the usage of a secret that is kept here"
                  isRequired
                />
              )}
            </>
          )}
        </>
      )}
      <Check isSelected={autostart} onChange={setAutostart}>
        Start it with the agent
      </Check>
      {form.isMade && <Choice label="Its storage" value={making} onChange={setMaking} options={MAKING} />}
    </Task>
  );
}
