import { useQuery } from '@tanstack/react-query';
import { useMemo, useState } from 'react';
import type { Token } from '../../../shared/protocol/api.ts';
import { call } from '../api/client.ts';
import { client, tokensQuery } from '../api/queries.ts';
import { useAsked } from '../parts/asked.ts';
import { Badge, Button, Page, Problem, Time } from '../parts/basics.tsx';
import { type ColumnOf, DataTable } from '../parts/data-table.tsx';
import { Task } from '../parts/dialog.tsx';
import { Choice, Field } from '../parts/form.tsx';
import { RoleField, ScopesField, scopesOf } from '../parts/rights-fields.tsx';
import { ShownOnce } from '../parts/shown-once.tsx';
import { toast } from '../parts/toasts.tsx';

const DAY_MS = 24 * 3600_000;
const LIVES = [
  { id: '30', label: '30 days' },
  { id: '90', label: '90 days' },
  { id: '365', label: 'a year' },
  { id: '', label: 'for ever, or until it is revoked' },
];

interface Made {
  token: Token;
  secret: string;
  warnings?: string[];
}
type Open = { what: 'create' } | { what: 'revoke'; token: Token } | { what: 'secret'; made: Made };

const refresh = (): Promise<void> => client.invalidateQueries({ queryKey: ['tokens'] });

function CreateToken({ close, done }: { close(): void; done(made: Made): void }) {
  const [name, setName] = useState('');
  const [role, setRole] = useState('viewer');
  const [scopes, setScopes] = useState('');
  const [days, setDays] = useState('90');
  return (
    <Task
      title="New token"
      verb="Make the token"
      close={close}
      isReady={name !== ''}
      run={async () => {
        const expiresAt = days === '' ? undefined : Date.now() + Number(days) * DAY_MS;
        const json = { name, role, scopes: scopesOf(scopes), expiresAt };
        const made = await call<Made>('/tokens', { method: 'POST', json });
        done(made);
        for (const warning of made.warnings ?? []) toast(warning, true);
        await refresh();
      }}
    >
      <p>For a program: whoever has its secret is let in with these rights.</p>
      <Field label="Name" value={name} onChange={setName} autoFocus isRequired />
      <RoleField value={role} onChange={setRole} />
      <ScopesField value={scopes} onChange={setScopes} />
      <Choice label="Good for" value={days} onChange={setDays} options={LIVES} />
    </Task>
  );
}

export function Tokens() {
  const { data = [], error, refetch } = useQuery(tokensQuery);
  const [open, setOpen] = useState<Open>();
  const close = (): void => setOpen(undefined);
  useAsked(['create'], (what) => setOpen({ what }));
  const columns = useMemo<readonly ColumnOf<Token>[]>(
    () => [
      { name: 'Name', by: ({ name }) => name, cell: ({ name }) => name },
      { name: 'Role', by: ({ role }) => role, cell: ({ role }) => role },
      { name: 'Where', cell: ({ scopes }) => scopes.join(' ') || 'everywhere' },
      { name: 'Since', by: ({ createdAt }) => createdAt, cell: ({ createdAt }) => <Time at={createdAt} /> },
      {
        name: 'Used',
        by: ({ usedAt = 0 }) => usedAt,
        cell: ({ usedAt }) => (usedAt === undefined ? 'never' : <Time at={usedAt} />),
      },
      {
        name: 'Good until',
        by: ({ expiresAt = Number.POSITIVE_INFINITY }) => expiresAt,
        cell: ({ expiresAt }) =>
          expiresAt === undefined ? (
            'for ever'
          ) : expiresAt < Date.now() ? (
            <Badge tone="warn">expired</Badge>
          ) : (
            <Time at={expiresAt} />
          ),
      },
      {
        name: 'Actions',
        width: 110,
        cell: (token) => (
          <Button
            look="quiet"
            aria-label={`Revoke ${token.name}`}
            onPress={() => setOpen({ what: 'revoke', token })}
          >
            Revoke …
          </Button>
        ),
      },
    ],
    [],
  );
  return (
    <Page
      title="Tokens"
      tools={
        <Button look="primary" onPress={() => setOpen({ what: 'create' })}>
          New token …
        </Button>
      }
    >
      {error ? (
        <Problem error={error} retry={() => void refetch()} />
      ) : (
        <DataTable
          label="Tokens"
          rows={data}
          keyOf={({ id }) => id}
          columns={columns}
          empty="No program has a token."
        />
      )}
      {open?.what === 'create' && (
        <CreateToken
          // A secret that was made stays open.
          close={() => setOpen((now) => (now?.what === 'secret' ? now : undefined))}
          done={(made) => setOpen({ what: 'secret', made })}
        />
      )}
      {open?.what === 'revoke' && (
        <Task
          title={`Revoke ${open.token.name}`}
          verb="Revoke"
          isDanger
          close={close}
          run={async () => {
            await call(`/tokens/${encodeURIComponent(open.token.name)}`, { method: 'DELETE' });
            await refresh();
          }}
        >
          <p>
            Whoever uses it is let in no more, and what it reads now ends. What it did stays in the trail.
          </p>
        </Task>
      )}
      {open?.what === 'secret' && (
        <ShownOnce title={`The secret of ${open.made.token.name}`} value={open.made.secret} close={close}>
          <p>It is shown this once. Put it where only its program can read it.</p>
        </ShownOnce>
      )}
    </Page>
  );
}
