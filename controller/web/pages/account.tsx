import { useQuery } from '@tanstack/react-query';
import { type Dispatch, type SetStateAction, useState } from 'react';
import type { OwnAccount, Passkey, Session } from '../../../shared/protocol/api.ts';
import { call } from '../api/client.ts';
import { knowsPasskeys } from '../api/passkeys.ts';
import { Badge, Button, Empty, Page, Problem, Section, Time } from '../parts/basics.tsx';
import { toast } from '../parts/toasts.tsx';
import {
  CodesTask,
  NoCodesTask,
  NoPasskeyTask,
  PasskeyTask,
  PasswordTask,
  RecoveryCodesShown,
  RecoveryTask,
  refresh,
} from '../tasks/account.tsx';

type Open =
  | { task: 'password' | 'no-codes' | 'passkey' | 'recovery' }
  | { task: 'codes'; secret: string; uri: string }
  | { task: 'no-passkey'; passkey: Passkey }
  | { task: 'shown'; codes: readonly string[] };

function Opened({
  open,
  account,
  show,
}: {
  open: Open;
  account: OwnAccount;
  show: Dispatch<SetStateAction<Open | undefined>>;
}) {
  // One that has opened another one does not close that.
  const close = (): void => show((current) => (current === open ? undefined : current));
  const showCodes = (codes: string[]): void => show({ task: 'shown', codes });
  const showRecoveryCodes = account.recoveryCodesLeft === 0 ? showCodes : undefined;
  switch (open.task) {
    case 'password':
      return <PasswordTask close={close} />;
    case 'codes':
      return <CodesTask {...open} showRecoveryCodes={showRecoveryCodes} close={close} />;
    case 'no-codes':
      return <NoCodesTask close={close} />;
    case 'passkey':
      return <PasskeyTask showRecoveryCodes={showRecoveryCodes} close={close} />;
    case 'no-passkey':
      return <NoPasskeyTask passkey={open.passkey} close={close} />;
    case 'recovery':
      return <RecoveryTask show={showCodes} close={close} />;
    case 'shown':
      return <RecoveryCodesShown codes={open.codes} close={close} />;
  }
}

function Passkeys({ passkeys, show }: { passkeys: readonly Passkey[]; show(open: Open): void }) {
  return (
    <Section title="Passkeys">
      <p>
        <Badge tone={passkeys.length > 0 ? 'good' : 'neutral'}>{passkeys.length > 0 ? 'on' : 'none'}</Badge> A
        passkey lets you in without a password. Once you have one, the password alone is no longer enough.{' '}
        {knowsPasskeys() ? (
          <Button onPress={() => show({ task: 'passkey' })}>Add …</Button>
        ) : (
          'This browser, or this address, has none: they need https and a name, or http://localhost on this machine.'
        )}
      </p>
      <ul className="list">
        {passkeys.map((passkey) => (
          <li key={passkey.id}>
            <span>{passkey.name}</span>
            <span className="why">
              made <Time at={passkey.createdAt} />
            </span>
            <span className="why">
              {passkey.usedAt === undefined ? (
                'not used yet'
              ) : (
                <>
                  used <Time at={passkey.usedAt} />
                </>
              )}
            </span>
            <Button onPress={() => show({ task: 'no-passkey', passkey })}>Remove …</Button>
          </li>
        ))}
      </ul>
    </Section>
  );
}

/** Codes of an app, and those for whoever has lost it. */
function Codes({ account, show }: { account: OwnAccount; show(open: Open): void }) {
  const { hasCodes, hasSecondFactor, recoveryCodesLeft } = account;
  const turnOn = (): void =>
    void call<{ secret: string; uri: string }>('/account/second-factor', { method: 'POST', json: {} }).then(
      (made) => show({ task: 'codes', ...made }),
      (failure: Error) => toast(failure.message, true),
    );
  return (
    <Section title="Codes">
      <p>
        <Badge tone={hasCodes ? 'good' : hasSecondFactor ? 'neutral' : 'warn'}>
          {hasCodes ? 'on' : 'off'}
        </Badge>{' '}
        {hasCodes
          ? 'A code of your app is asked for beside your password.'
          : 'No code of an app is asked for beside your password.'}{' '}
        {hasCodes ? (
          <Button onPress={() => show({ task: 'no-codes' })}>Turn off …</Button>
        ) : (
          <Button onPress={turnOn}>Turn on …</Button>
        )}
      </p>
      {hasSecondFactor && (
        <p>
          <Badge tone={recoveryCodesLeft > 3 ? 'good' : 'warn'}>{recoveryCodesLeft}</Badge> recovery codes are
          left, for when your app or passkey is lost
          {recoveryCodesLeft === 0 && ': nothing else lets you in then'}.{' '}
          <Button onPress={() => show({ task: 'recovery' })}>Make new ones …</Button>
        </p>
      )}
    </Section>
  );
}

export function Account() {
  const { data: account, error } = useQuery({
    queryKey: ['account', 'self'],
    queryFn: ({ signal }) => call<OwnAccount>('/account', { signal }),
  });
  const sessions = useQuery({
    queryKey: ['account', 'sessions'],
    queryFn: ({ signal }) => call<Session[]>('/account/sessions', { signal }),
  });
  const [open, setOpen] = useState<Open>();
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
  const { hasPassword } = account;
  return (
    <Page
      title={account.name}
      tools={
        hasPassword && <Button onPress={() => setOpen({ task: 'password' })}>Change your password …</Button>
      }
    >
      {hasPassword ? (
        <>
          <Passkeys passkeys={account.passkeys} show={setOpen} />
          <Codes account={account} show={setOpen} />
        </>
      ) : (
        <Section title="How you sign in">
          <p>By the provider of your organisation: passwords, passkeys and codes are kept there.</p>
        </Section>
      )}
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
      {open && <Opened key={open.task} open={open} account={account} show={setOpen} />}
    </Page>
  );
}
