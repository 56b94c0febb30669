import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { useLocation } from 'wouter';
import { isPoolType, POOL_TYPES, type PoolType, type SourcePart } from '../../../shared/conf/pool-types.ts';
import type { FleetPool } from '../../../shared/protocol/api.ts';
import { call, hostPath, linkTo } from '../api/client.ts';
import { hostQuery, useHosts } from '../api/queries.ts';
import { useMay } from '../api/rights.ts';
import { Task } from '../parts/dialog.tsx';
import { Check, Choice, Field, TextArea } from '../parts/form.tsx';
import { toast } from '../parts/toasts.tsx';

/** Of what a pool is made: a field for each part that its type has. `network` is several hosts, which the field takes, too. */
const PARTS: Record<Exclude<SourcePart, 'network'>, { label: string; hint: string }> = {
  host: { label: 'Servers', hint: 'names or addresses, with :PORT where it is not the usual one' },
  dir: { label: 'Directory there', hint: 'the export of a server, such as /export/images' },
  name: { label: 'Source', hint: 'a volume group, GROUP/THINPOOL, zpool, pool of Ceph, volume of gluster' },
  device: { label: 'Devices', hint: 'paths on the host, or the IQN of a target' },
  adapter: { label: 'Adapter', hint: 'such as scsi_host3' },
  initiator: { label: 'Initiator', hint: 'the IQN of the host; its own unless given' },
};
const OPTIONAL: ReadonlySet<string> = new Set([
  'device of logical',
  'device of zfs',
  'initiator',
  'dir of gluster',
]);
/** What lies behind devices of the host is looked for here. */
const TARGETS: Record<string, string> = {
  iscsi: '/dev/disk/by-path',
  scsi: '/dev/disk/by-path',
  disk: '/dev',
  mpath: '/dev/mapper',
};
/** From libvirt's document, which can say everything. */
const DOCUMENT = 'document';

type Part = keyof typeof PARTS;
type Given = Partial<Record<Part, string>>;

const words = (text = ''): string[] => text.split(/[\s,]+/).filter((word) => word !== '');

function partsOf({ source }: PoolType): Part[] {
  const named = source.map((part) => (part === 'network' ? 'host' : part));
  return [...new Set(named)];
}

const serverOf = (text: string) => {
  const [, name = text, port] = /^(.*[^:]):(\d{1,5})$/.exec(text) ?? [];
  return { name, port: port === undefined ? undefined : Number(port) };
};

function sourceOf(given: Given, format: string | undefined, user: string, usage: string, type: string) {
  const auth = { type: type === 'rbd' ? 'ceph' : type.startsWith('iscsi') ? 'chap' : undefined };
  return {
    hosts: words(given.host).map(serverOf),
    devices: words(given.device).map((path) => ({ path })),
    dir: given.dir || undefined,
    name: given.name || undefined,
    adapter: given.adapter ? { type: 'scsi_host', name: given.adapter } : undefined,
    initiatorIqn: given.initiator || undefined,
    format,
    auth: user === '' ? undefined : { ...auth, username: user, secret: { usage } },
  };
}

/** Makes a pool on a host: of fields, or of a document. */
export function CreatePool({ host: given = '', close }: { host?: string; close(): void }) {
  const [, navigate] = useLocation();
  const may = useMay();
  const hosts = useHosts();
  const [host, setHost] = useState(given);
  const [type, setType] = useState('dir');
  const [name, setName] = useState('');
  const [parts, setParts] = useState<Given>({});
  const [format, setFormat] = useState('');
  const [target, setTarget] = useState('');
  const [user, setUser] = useState('');
  const [usage, setUsage] = useState('');
  const [xml, setXml] = useState('');
  const [autostart, setAutostart] = useState(true);
  const [overwrite, setOverwrite] = useState(false);
  const { data } = useQuery({ ...hostQuery(host), enabled: host !== '' });
  const backends = data?.agent?.backends ?? [];
  const isDocument = type === DOCUMENT;
  const kind: PoolType | undefined = isPoolType(type) ? POOL_TYPES[type] : undefined;
  const fields = kind ? partsOf(kind) : [];
  const hasTarget = !isDocument && !kind?.untargeted && !kind?.targetPath?.fixed;
  const hasDevices = ['fs', 'logical', 'disk', 'zfs'].includes(type);
  const hasLogin = kind?.source.some((part) => part === 'host' || part === 'network') ?? false;
  const isNeeded = (part: Part): boolean => !OPTIONAL.has(part) && !OPTIONAL.has(`${part} of ${type}`);
  const formats = [...(kind?.formats ?? []), ...(kind?.ownFormats ?? [])];
  const path = target || TARGETS[type] || '';
  const isReady =
    host !== '' &&
    (isDocument
      ? xml !== ''
      : name !== '' &&
        (!hasTarget || path !== '') &&
        fields.every((part) => !isNeeded(part) || words(parts[part]).length > 0) &&
        (user === '') === (usage === ''));
  return (
    <Task
      title="New pool"
      verb={overwrite ? 'Overwrite and make the pool' : 'Make the pool'}
      isDanger={overwrite}
      close={close}
      isReady={isReady}
      run={async () => {
        const more = { autostart, overwrite: overwrite || undefined };
        const definition = {
          ...{ name, type },
          source: sourceOf(parts, format || undefined, user, usage, type),
          target: hasTarget ? { path } : {},
        };
        const json = isDocument ? { ...more, xml } : { ...more, ...definition };
        const made = await call<FleetPool>(`${hostPath(host)}/pools`, { method: 'POST', json });
        toast(`pool ${host}/${made.name} is ${made.state}`);
        navigate(linkTo.pool(host, made.name));
      }}
    >
      <Choice
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
          setOverwrite(false);
        }}
        options={[
          ...(backends.length > 0
            ? backends.map((backend) => ({
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
          {fields.map((part) => (
            <Field
              key={part}
              label={PARTS[part].label}
              hint={PARTS[part].hint}
              value={parts[part] ?? ''}
              onChange={(value) => setParts({ ...parts, [part]: value })}
              isRequired={isNeeded(part)}
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
              placeholder={TARGETS[type] ?? `/srv/stowage/${name || 'NAME'}`}
              isRequired={TARGETS[type] === undefined}
            />
          )}
          {hasLogin && (
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
      {hasDevices && (
        <Check isSelected={overwrite} onChange={setOverwrite}>
          Make it new, and overwrite whatever is on the devices
        </Check>
      )}
    </Task>
  );
}
