import { useQuery } from '@tanstack/react-query';
import { useMemo, useState } from 'react';
import type { Invitation, OpenInvitation, User } from '../../../shared/protocol/api.ts';
import { call } from '../api/client.ts';
import { client, invitationsQuery, usersQuery } from '../api/queries.ts';
import { useAsked } from '../parts/asked.ts';
import { Badge, Button, Page, Problem, Section, Time } from '../parts/basics.tsx';
import { type ColumnOf, DataTable } from '../parts/data-table.tsx';
import { Task } from '../parts/dialog.tsx';
import { Field } from '../parts/form.tsx';
import { localTime } from '../parts/format.ts';
import { RoleField, ScopesField, scopesOf } from '../parts/rights-fields.tsx';
import { ShownOnce } from '../parts/shown-once.tsx';

type Open =
  | { what: 'invite' }
  | { what: 'change' | 'remove' | 'reset'; user: User }
  | { what: 'link'; name: string; invitation: Invitation };

const pathOf = (name: string): string => `/users/${encodeURIComponent(name)}`;
const refresh = (): Promise<void> => client.invalidateQueries({ queryKey: ['users'] });

/** Invites somebody, or changes what they may do. */
function RightsTask({
  user,
  close,
  linked,
}: {
  user?: User;
  close(): void;
  linked(name: string, invitation: Invitation): void;
}) {
  const [name, setName] = useState(user?.name ?? '');
  const [role, setRole] = useState<string>(user?.role ?? 'viewer');
  const [scopes, setScopes] = useState(user?.scopes.join(' ') ?? '');
  return (
    <Task
      title={user ? `What ${user.name} may do` : 'Invite somebody'}
      verb={user ? 'Save' : 'Invite'}
      close={close}
      isReady={name !== ''}
      run={async () => {
        const json = { role, scopes: scopesOf(scopes) };
        if (user) await call(pathOf(user.name), { method: 'PATCH', json });
        else linked(name, await call<Invitation>('/users', { method: 'POST', json: { name, ...json } }));
        await refresh();
      }}
    >
      {!user && <Field label="Name" value={name} onChange={setName} autoFocus isRequired />}
      <RoleField value={role} onChange={setRole} />
      <ScopesField value={scopes} onChange={setScopes} />
    </Task>
  );
}

/** Links that were given out and not used yet, if there are any. */
function Invitations() {
  const { data = [], error, refetch } = useQuery(invitationsQuery);
  const [withdrawn, setWithdrawn] = useState<string>();
  const columns = useMemo<readonly ColumnOf<OpenInvitation>[]>(
    () => [
      {
        name: 'Name',
        by: ({ name }) => name ?? '',
        cell: ({ name }) => name ?? 'the first administrator',
      },
      { name: 'For', cell: ({ isReset }) => (isReset ? 'a new password' : 'a new user') },
      { name: 'Role', by: ({ role }) => role, cell: ({ role }) => role },
      { name: 'Where', cell: ({ scopes }) => scopes.join(' ') || 'everywhere' },
      {
        name: 'Good until',
        by: ({ expiresAt }) => expiresAt,
        cell: ({ expiresAt }) => <Time at={expiresAt} />,
      },
      {
        name: 'Actions',
        cell: ({ name }) =>
          name === undefined ? (
            'a start of the controller makes another'
          ) : (
            <Button
              look="quiet"
              aria-label={`Withdraw the link for ${name}`}
              onPress={() => setWithdrawn(name)}
            >
              Withdraw …
            </Button>
          ),
      },
    ],
    [],
  );
  return (
    <>
      {error && <Problem error={error} retry={() => void refetch()} />}
      {data.length > 0 && (
        <Section title="Open invitations">
          <DataTable
            label="Open invitations"
            rows={data}
            keyOf={({ name = '' }) => name}
            columns={columns}
            empty=""
          />
        </Section>
      )}
      {withdrawn !== undefined && (
        <Task
          title={`Withdraw the link for ${withdrawn}`}
          verb="Withdraw"
          isDanger
          close={() => setWithdrawn(undefined)}
          run={async () => {
            await call(`/open-invitations/${encodeURIComponent(withdrawn)}`, { method: 'DELETE' });
            await refresh();
          }}
        >
          <p>The link that was given to {withdrawn} lets nobody in any more.</p>
        </Task>
      )}
    </>
  );
}

export function People() {
  const { data = [], error, refetch } = useQuery(usersQuery);
  const [open, setOpen] = useState<Open>();
  const close = (): void => setOpen(undefined);
  useAsked(['invite'], (what) => setOpen({ what }));
  const columns = useMemo<readonly ColumnOf<User>[]>(
    () => [
      { name: 'Name', by: ({ name }) => name, cell: ({ name }) => name },
      { name: 'Role', by: ({ role }) => role, cell: ({ role }) => role },
      { name: 'Where', cell: ({ scopes }) => scopes.join(' ') || 'everywhere' },
      {
        name: 'Second factor',
        cell: ({ hasSecondFactor }) => (
          <Badge tone={hasSecondFactor ? 'good' : 'neutral'}>{hasSecondFactor ? 'yes' : 'no'}</Badge>
        ),
      },
      { name: 'Since', by: ({ createdAt }) => createdAt, cell: ({ createdAt }) => <Time at={createdAt} /> },
      {
        name: 'Actions',
        width: 330,
        cell: (user) => (
          <span className="tools">
            <Button
              look="quiet"
              aria-label={`Change ${user.name}`}
              onPress={() => setOpen({ what: 'change', user })}
            >
              Change …
            </Button>
            <Button
              look="quiet"
              aria-label={`New password for ${user.name}`}
              onPress={() => setOpen({ what: 'reset', user })}
            >
              New password …
            </Button>
            <Button
              look="quiet"
              aria-label={`Remove ${user.name}`}
              onPress={() => setOpen({ what: 'remove', user })}
            >
              Remove …
            </Button>
          </span>
        ),
      },
    ],
    [],
  );
  return (
    <Page
      title="People"
      tools={
        <Button look="primary" onPress={() => setOpen({ what: 'invite' })}>
          Invite …
        </Button>
      }
    >
      {error ? (
        <Problem error={error} retry={() => void refetch()} />
      ) : (
        <DataTable
          label="People"
          rows={data}
          keyOf={({ id }) => id}
          columns={columns}
          empty="Nobody signs in yet."
        />
      )}
      <Invitations />
      {(open?.what === 'invite' || open?.what === 'change') && (
        <RightsTask
          user={open.what === 'change' ? open.user : undefined}
          // A link that was given out stays open.
          close={() => setOpen((now) => (now?.what === 'link' ? now : undefined))}
          linked={(name, invitation) => setOpen({ what: 'link', name, invitation })}
        />
      )}
      {open?.what === 'reset' && (
        <Task
          title={`A new password for ${open.user.name}`}
          verb="Make a link"
          close={() => setOpen((now) => (now?.what === 'link' ? now : undefined))}
          run={async () => {
            const invitation = await call<Invitation>(`${pathOf(open.user.name)}/reset`, {
              method: 'POST',
              json: {},
            });
            setOpen({ what: 'link', name: open.user.name, invitation });
            await refresh();
          }}
        >
          <p>
            With the link {open.user.name} sets a new password. Then all sessions end, and the second factor
            goes; until then everything stays as it is.
          </p>
        </Task>
      )}
      {open?.what === 'remove' && (
        <Task
          title={`Remove ${open.user.name}`}
          verb="Remove"
          isDanger
          close={close}
          run={async () => {
            await call(pathOf(open.user.name), { method: 'DELETE' });
            await refresh();
          }}
        >
          <p>All that {open.user.name} has open ends. What they did stays in the trail.</p>
        </Task>
      )}
      {open?.what === 'link' && (
        <ShownOnce
          title={`A link for ${open.name}`}
          value={`${location.origin}/welcome#${open.invitation.token}`}
          close={close}
        >
          <p>
            Give it to {open.name}, and to nobody else. It is good once, until{' '}
            {localTime(open.invitation.expiresAt)}.
          </p>
        </ShownOnce>
      )}
    </Page>
  );
}
