import { useQuery } from '@tanstack/react-query';
import { useMemo, useState } from 'react';
import type { Secret } from '../../../shared/protocol/api.ts';
import { call } from '../api/client.ts';
import { client, secretsQuery } from '../api/queries.ts';
import { useAsked } from '../parts/asked.ts';
import { Button, Page, Problem, Time } from '../parts/basics.tsx';
import { type ColumnOf, DataTable } from '../parts/data-table.tsx';
import { Task } from '../parts/dialog.tsx';
import { Check, Choice, Field } from '../parts/form.tsx';
import { ScopesField, scopesOf } from '../parts/rights-fields.tsx';
import { toast } from '../parts/toasts.tsx';

const KINDS = [
  { id: 'volume', label: 'volume: the passphrase of encrypted volumes' },
  { id: 'iscsi', label: 'iscsi: a password of CHAP' },
  { id: 'ceph', label: 'ceph: a key of cephx' },
];

type Open = { what: 'create'; secret?: Secret } | { what: 'forget'; secret: Secret };

const refresh = (): Promise<void> => client.invalidateQueries({ queryKey: ['secrets'] });

/** Keeps a new secret, or gives one that there is another value. */
function DefineSecret({
  secret,
  others,
  close,
}: {
  secret?: Secret;
  others: readonly Secret[];
  close(): void;
}) {
  const [kind, setKind] = useState<string>(secret?.kind ?? 'volume');
  const [usage, setUsage] = useState(secret?.usage ?? '');
  const [description, setDescription] = useState(secret?.description ?? '');
  const [scopes, setScopes] = useState(secret?.scopes.join(' ') ?? '');
  const [value, setValue] = useState('');
  const [replace, setReplace] = useState(false);
  const isOfVolumes = secret?.kind === 'volume';
  const isTaken = !secret && others.some((other) => other.kind === kind && other.usage === usage);
  return (
    <Task
      title={secret ? `Another value for ${secret.usage}` : 'New secret'}
      verb="Save"
      close={close}
      isReady={
        !isTaken && usage !== '' && value !== '' && scopesOf(scopes).length > 0 && (!isOfVolumes || replace)
      }
      run={async () => {
        const json = {
          ...{ kind, usage, value, replace, id: secret?.id },
          scopes: scopesOf(scopes),
          description: description || undefined,
        };
        await call('/secrets', { method: 'POST', json });
        toast(`the secret ${usage} is kept`);
        await refresh();
      }}
    >
      {!secret && (
        <>
          <Choice label="Kind" value={kind} onChange={setKind} options={KINDS} />
          <Field
            label="Usage"
            value={usage}
            onChange={setUsage}
            hint={isTaken ? 'there is one of this kind and usage' : 'by which pools and volumes name it'}
            autoFocus
            isRequired
          />
        </>
      )}
      <Field label="Value" type="password" value={value} onChange={setValue} autoComplete="off" isRequired />
      <Field label="Description" value={description} onChange={setDescription} />
      <ScopesField value={scopes} onChange={setScopes} isRequired />
      {isOfVolumes && (
        <Check isSelected={replace} onChange={setReplace}>
          Volumes encrypted with the value that it has cannot be opened with the new one
        </Check>
      )}
    </Task>
  );
}

export function Secrets() {
  const { data = [], error, refetch } = useQuery(secretsQuery);
  const [open, setOpen] = useState<Open>();
  const close = (): void => setOpen(undefined);
  useAsked(['create'], (what) => setOpen({ what }));
  const columns = useMemo<readonly ColumnOf<Secret>[]>(
    () => [
      { name: 'Usage', by: ({ usage }) => usage, cell: ({ usage }) => usage },
      { name: 'Kind', by: ({ kind }) => kind, cell: ({ kind }) => kind },
      { name: 'For', cell: ({ scopes }) => scopes.join(' ') },
      { name: 'Description', cell: ({ description }) => description },
      { name: 'Changed', by: ({ changedAt }) => changedAt, cell: ({ changedAt }) => <Time at={changedAt} /> },
      {
        name: 'Actions',
        width: 230,
        cell: (secret) => (
          <span className="tools">
            <Button
              look="quiet"
              aria-label={`Another value for ${secret.usage}`}
              onPress={() => setOpen({ what: 'create', secret })}
            >
              New value …
            </Button>
            <Button
              look="quiet"
              aria-label={`Forget ${secret.usage}`}
              onPress={() => setOpen({ what: 'forget', secret })}
            >
              Forget …
            </Button>
          </span>
        ),
      },
    ],
    [],
  );
  return (
    <Page
      title="Secrets"
      tools={
        <Button look="primary" onPress={() => setOpen({ what: 'create' })}>
          New secret …
        </Button>
      }
    >
      {error ? (
        <Problem error={error} retry={() => void refetch()} />
      ) : (
        <DataTable
          label="Secrets"
          rows={data}
          keyOf={({ id }) => id}
          columns={columns}
          empty="No storage has a secret here."
        />
      )}
      {open?.what === 'create' && <DefineSecret secret={open.secret} others={data} close={close} />}
      {open?.what === 'forget' && <ForgetSecret secret={open.secret} close={close} />}
    </Page>
  );
}

function ForgetSecret({ secret, close }: { secret: Secret; close(): void }) {
  const [allowUsed, setAllowUsed] = useState(false);
  return (
    <Task
      title={`Forget ${secret.usage}`}
      verb="Forget"
      isDanger
      close={close}
      toType={{ what: 'its usage', text: secret.usage }}
      run={async () => {
        await call(`/secrets/${secret.id}?allowUsed=${allowUsed}`, { method: 'DELETE' });
        await refresh();
      }}
    >
      <p>
        {secret.kind === 'volume'
          ? 'What is encrypted with it nobody can open who has the value nowhere else.'
          : 'Pools that run with it go on until they are stopped.'}
      </p>
      {secret.kind === 'volume' && (
        <Check isSelected={allowUsed} onChange={setAllowUsed}>
          Also where volumes are encrypted with it
        </Check>
      )}
    </Task>
  );
}
