import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import type { Session, User } from '../../../shared/protocol/api.ts';
import { call } from '../api/client.ts';
import { client } from '../api/queries.ts';
import { Badge, Button, Empty, Page, Problem, Section, Time } from '../parts/basics.tsx';
import { Task } from '../parts/dialog.tsx';
import { Field } from '../parts/form.tsx';
import { toast } from '../parts/toasts.tsx';

const refresh = (): Promise<void> => client.invalidateQueries({ queryKey: ['account'] });

function PasswordTask({ close }: { close(): void }) {
  const [before, setBefore] = useState('');
  const [password, setPassword] = useState('');
  return (
    <Task
      title="Change your password"
      verb="Change"
      close={close}
      isReady={before !== '' && password !== ''}
      run={async () => {
        await call('/account/password', { method: 'PUT', json: { before, password } });
        toast('Your password is changed; your other sessions have ended');
        await refresh();
      }}
    >
      <Field
        label="Present password"
        type="password"
        autoComplete="current-password"
        value={before}
        onChange={setBefore}
        autoFocus
      />
      <Field
        label="New password"
        type="password"
        autoComplete="new-password"
        value={password}
        onChange={setPassword}
        hint="at least 12 characters"
      />
    </Task>
  );
}

function SecondFactorTask({ secret, uri, close }: { secret: string; uri: string; close(): void }) {
  const [password, setPassword] = useState('');
  const [code, setCode] = useState('');
  return (
    <Task
      title="A second factor"
      verb="Turn on"
      close={close}
      isReady={password !== '' && code !== ''}
      run={async () => {
        await call('/account/second-factor', { method: 'PUT', json: { password, secret, code } });
        toast('From now on a code is asked for, too');
        await refresh();
      }}
    >
      <p>
        Add this to your app for codes (TOTP), by <a href={uri}>opening it in the app</a> or by hand:
      </p>
      <p>
        <code className="breaks">{secret.match(/.{4}/g)?.join(' ')}</code>
      </p>
      <Field
        label="The code that it shows"
        value={code}
        onChange={setCode}
        inputMode="numeric"
        autoComplete="one-time-code"
        autoFocus
      />
      <Field
        label="Your password"
        type="password"
        autoComplete="current-password"
        value={password}
        onChange={setPassword}
      />
    </Task>
  );
}

function NoSecondFactorTask({ close }: { close(): void }) {
  const [password, setPassword] = useState('');
  return (
    <Task
      title="Only a password"
      verb="Turn off"
      isDanger
      close={close}
      isReady={password !== ''}
      run={async () => {
        await call('/account/second-factor/remove', { method: 'POST', json: { password } });
        await refresh();
      }}
    >
      <p>No code is asked for any more: who knows your password is you.</p>
      <Field
        label="Your password"
        type="password"
        autoComplete="current-password"
        value={password}
        onChange={setPassword}
        autoFocus
      />
    </Task>
  );
}

export function Account() {
  const { data: account, error } = useQuery({
    queryKey: ['account', 'self'],
    queryFn: ({ signal }) => call<User>('/account', { signal }),
  });
  const sessions = useQuery({
    queryKey: ['account', 'sessions'],
    queryFn: ({ signal }) => call<Session[]>('/account/sessions', { signal }),
  });
  const [open, setOpen] = useState<'password' | 'no-factor' | { secret: string; uri: string }>();
  const close = (): void => setOpen(undefined);
  const end = async ({ id }: Session): Promise<void> => {
    try {
      await call(`/account/sessions/${id}`, { method: 'DELETE' });
    } catch (failure) {
      toast((failure as Error).message, true);
    }
    await refresh();
  };
  if (error || !account)
    return <Page title="Account">{error ? <Problem error={error} /> : <Empty>Loading …</Empty>}</Page>;
  return (
    <Page
      title={account.name}
      tools={<Button onPress={() => setOpen('password')}>Change your password …</Button>}
    >
      <Section title="Second factor">
        <p>
          <Badge tone={account.hasSecondFactor ? 'good' : 'warn'}>
            {account.hasSecondFactor ? 'on' : 'off'}
          </Badge>{' '}
          {account.hasSecondFactor
            ? 'A code of your app is asked for beside your password.'
            : 'Only your password is asked for.'}{' '}
          {account.hasSecondFactor ? (
            <Button onPress={() => setOpen('no-factor')}>Turn off …</Button>
          ) : (
            <Button
              onPress={() =>
                void call<{ secret: string; uri: string }>('/account/second-factor', {
                  method: 'POST',
                  json: {},
                }).then(setOpen, (failure: Error) => toast(failure.message, true))
              }
            >
              Turn on …
            </Button>
          )}
        </p>
      </Section>
      <Section title="Where you are signed in">
        <ul className="list">
          {(sessions.data ?? []).map((session) => (
            <li key={session.id}>
              <span>
                {session.source} {session.isCurrent && <Badge tone="good">this one</Badge>}
              </span>
              <span className="why">{session.client}</span>
              <span className="why">
                used <Time at={session.usedAt} />
              </span>
              {!session.isCurrent && <Button onPress={() => void end(session)}>End</Button>}
            </li>
          ))}
        </ul>
      </Section>
      {open === 'password' && <PasswordTask close={close} />}
      {open === 'no-factor' && <NoSecondFactorTask close={close} />}
      {typeof open === 'object' && <SecondFactorTask {...open} close={close} />}
    </Page>
  );
}
