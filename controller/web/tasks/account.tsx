import { type ComponentProps, useState } from 'react';
import type { Passkey } from '../../../shared/protocol/api.ts';
import { call } from '../api/client.ts';
import { addPasskey } from '../api/passkeys.ts';
import { client } from '../api/queries.ts';
import { Task } from '../parts/dialog.tsx';
import { Field } from '../parts/form.tsx';
import { QrCode } from '../parts/qr-code.tsx';
import { ShownOnce } from '../parts/shown-once.tsx';
import { toast } from '../parts/toasts.tsx';

export const refresh = (): Promise<void> => client.invalidateQueries({ queryKey: ['account'] });

type ConfirmedProps = Omit<ComponentProps<typeof Task>, 'run'> & {
  /** It asks for nothing but the password. */
  isAlone?: boolean;
  run(password: string): Promise<unknown>;
};

/** A task for which somebody shows once more who they are, by their password. */
function ConfirmedTask({ isReady = true, isAlone, run, children, ...task }: ConfirmedProps) {
  const [password, setPassword] = useState('');
  return (
    <Task {...task} isReady={isReady && password !== ''} run={() => run(password)}>
      {children}
      <Field
        label="Your password"
        type="password"
        autoComplete="current-password"
        value={password}
        onChange={setPassword}
        autoFocus={isAlone}
      />
    </Task>
  );
}

export function PasswordTask({ close }: { close(): void }) {
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

async function newRecoveryCodes(password: string): Promise<string[]> {
  const made = await call<{ codes: string[] }>('/account/recovery-codes', {
    method: 'POST',
    json: { password },
  });
  return made.codes;
}

interface SecondFactorTask {
  /** Shows the codes that the first second factor comes with; absent where there are some. */
  showRecoveryCodes?: (codes: string[]) => void;
  close(): void;
}

export function CodesTask({
  secret,
  uri,
  showRecoveryCodes,
  close,
}: SecondFactorTask & { secret: string; uri: string }) {
  const [code, setCode] = useState('');
  return (
    <ConfirmedTask
      title="Codes of an app"
      verb="Turn on"
      close={close}
      isReady={code !== ''}
      run={async (password) => {
        await call('/account/second-factor', { method: 'PUT', json: { password, secret, code } });
        toast('From now on a code is asked for, too');
        if (showRecoveryCodes) showRecoveryCodes(await newRecoveryCodes(password));
        await refresh();
      }}
    >
      <p>
        Add this to your app for codes (TOTP): by its camera, by <a href={uri}>opening it in the app</a>, or
        by hand.
      </p>
      <QrCode text={uri} label="The secret, for the camera of the app" />
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
    </ConfirmedTask>
  );
}

export function NoCodesTask({ close }: { close(): void }) {
  return (
    <ConfirmedTask
      title="No codes any more"
      verb="Turn off"
      isDanger
      close={close}
      isAlone
      run={async (password) => {
        await call('/account/second-factor/remove', { method: 'POST', json: { password } });
        await refresh();
      }}
    >
      <p>No code is asked for any more. Without a passkey, whoever knows your password is let in.</p>
    </ConfirmedTask>
  );
}

export function PasskeyTask({ showRecoveryCodes, close }: SecondFactorTask) {
  const [name, setName] = useState('');
  return (
    <ConfirmedTask
      title="A passkey"
      verb="Go on"
      close={close}
      isReady={name.trim() !== ''}
      run={async (password) => {
        await addPasskey(name.trim(), password);
        toast('From now on the passkey lets you in, and your password alone does not');
        if (showRecoveryCodes) showRecoveryCodes(await newRecoveryCodes(password));
        await refresh();
      }}
    >
      <p>Your browser asks next: a fingerprint, a face, the PIN of this device, or a security key.</p>
      <Field label="What you call it" value={name} onChange={setName} placeholder="My laptop" autoFocus />
    </ConfirmedTask>
  );
}

export function NoPasskeyTask({ passkey, close }: { passkey: Passkey; close(): void }) {
  return (
    <ConfirmedTask
      title={`Remove the passkey ${passkey.name}`}
      verb="Remove"
      isDanger
      close={close}
      isAlone
      run={async (password) => {
        const path = `/account/passkeys/${encodeURIComponent(passkey.id)}/remove`;
        await call(path, { method: 'POST', json: { password } });
        await refresh();
      }}
    >
      <p>It lets nobody in any more. It stays on the device, where you can remove it, too.</p>
    </ConfirmedTask>
  );
}

export function RecoveryTask({ show, close }: { show(codes: string[]): void; close(): void }) {
  return (
    <ConfirmedTask
      title="Recovery codes"
      verb="Make codes"
      close={close}
      isAlone
      run={async (password) => {
        // They are shown before anything else may fail: earlier ones have ended.
        show(await newRecoveryCodes(password));
        void refresh();
      }}
    >
      <p>
        Ten codes, each of which lets you in once, beside your password, where your app or passkey is lost.
        Earlier ones let you in no more.
      </p>
    </ConfirmedTask>
  );
}

export const RecoveryCodesShown = ({ codes, close }: { codes: readonly string[]; close(): void }) => (
  <ShownOnce title="Your recovery codes" value={codes.join('\n')} isLong close={close}>
    <p>Keep them where you find them without this device. They are not shown again.</p>
  </ShownOnce>
);
