import { type FormEvent, type ReactNode, useEffect, useState } from 'react';
import { ApiError, call } from '../api/client.ts';
import { knowsPasskeys, signInByPasskey } from '../api/passkeys.ts';
import { Button, Problem } from '../parts/basics.tsx';
import { Field } from '../parts/form.tsx';
import { useSubmit } from '../parts/submit.ts';

function Card({
  title,
  children,
  submit,
  verb,
  error,
  isBusy,
}: {
  title: string;
  children: ReactNode;
  submit(): Promise<void>;
  verb: string;
  error: unknown;
  isBusy: boolean;
}) {
  useEffect(() => {
    document.title = `${title} · Stowage`;
  }, [title]);
  return (
    <main className="card">
      <h1>{title}</h1>
      <form
        className="form"
        onSubmit={(event: FormEvent) => {
          event.preventDefault();
          void submit();
        }}
        noValidate
      >
        {children}
        {error !== undefined && <Problem error={error} />}
        <Button type="submit" look="primary" isBusy={isBusy}>
          {verb}
        </Button>
      </form>
    </main>
  );
}

/** After it a cookie is kept; a browser keeps none that came without TLS from another machine. */
async function enter(done: () => void): Promise<void> {
  const { isSignedIn } = await call<{ isSignedIn: boolean }>('/session');
  if (isSignedIn) return done();
  throw new ApiError(
    'cookie-refused',
    'Your browser does not keep the session: it does so over https only, or on the machine of the controller itself. Start it with --tls.',
    0,
  );
}

/** Why somebody came back from their provider. */
const REFUSALS: Record<string, string> = {
  'user-exists': 'Another user, or a token, has your name here: ask an administrator.',
  'rate-limited': 'Too many tries: wait a little.',
  'provider-unreachable':
    'Your provider does not answer: try again in a moment, or sign in by password or passkey.',
};

export function SignIn({ done, isNew, hasProvider }: { done(): void; isNew: boolean; hasProvider: boolean }) {
  const refused = new URLSearchParams(location.search).get('refused');
  const [name, setName] = useState('');
  const [password, setPassword] = useState('');
  const [code, setCode] = useState('');
  const [asksCode, setAsksCode] = useState(false);
  const [hint, setHint] = useState('');
  const byPassword = async (): Promise<void> => {
    try {
      await call('/session', { method: 'POST', json: { name, password, ...(asksCode && { code }) } });
    } catch (failure) {
      if (!(failure instanceof ApiError) || failure.code !== 'second-factor-missing') throw failure;
      setAsksCode(true);
      setHint(failure.message);
      return;
    }
    await enter(done);
  };
  const byPasskey = async (): Promise<void> => {
    await signInByPasskey();
    await enter(done);
  };
  // One way in at a time; what went wrong on the last one is shown.
  const { submit, error, isBusy } = useSubmit();
  return (
    <Card
      title="Sign in"
      verb={asksCode ? 'Go on' : 'Sign in'}
      submit={() => submit(byPassword)}
      error={error}
      isBusy={isBusy}
    >
      {refused !== null && (
        <Problem
          error={
            REFUSALS[refused] ??
            'Your provider did not let you in, or you have no role here: ask an administrator.'
          }
        />
      )}
      {hasProvider && (
        <a className="button primary" href="/api/v1/session/open-id">
          Sign in with your organisation
        </a>
      )}
      {knowsPasskeys() && !isNew && (
        <Button onPress={() => void submit(byPasskey)} isBusy={isBusy}>
          Sign in with a passkey
        </Button>
      )}
      {isNew && (
        <p>
          There are no users yet. Open the link of the first administrator to choose your name and your
          password: it is printed at the start, and lies in the file <code>first-link</code> of the data
          directory.
        </p>
      )}
      <Field label="Name" value={name} onChange={setName} autoComplete="username" autoFocus isRequired />
      <Field
        label="Password"
        type="password"
        value={password}
        onChange={setPassword}
        autoComplete="current-password"
        isRequired
      />
      {asksCode && (
        <Field
          label="Code of your app, or recovery code"
          hint={hint}
          value={code}
          onChange={setCode}
          autoComplete="one-time-code"
          autoFocus
        />
      )}
    </Card>
  );
}

/** Where an invitation leads, and another one that is opened in the same tab. */
export function Welcome({ done }: { done(): void }) {
  const [{ token, opened }, setLink] = useState(() => ({ token: location.hash.slice(1), opened: 0 }));
  useEffect(() => {
    // The token is in no address that is sent or kept.
    const hide = () => history.replaceState(null, '', '/welcome');
    // A browser that is here already does not load the page again: only the hash changes.
    const follow = () => {
      const next = location.hash.slice(1);
      hide();
      if (next !== '') setLink((last) => ({ token: next, opened: last.opened + 1 }));
    };
    hide();
    addEventListener('hashchange', follow);
    return () => removeEventListener('hashchange', follow);
  }, []);
  return <Invitation key={opened} token={token} done={done} />;
}

function Invitation({ token, done }: { token: string; done(): void }) {
  const [invited, setInvited] = useState<{ name?: string; role: string }>();
  const [name, setName] = useState('');
  const [password, setPassword] = useState('');
  const [again, setAgain] = useState('');
  const [refusal, setRefusal] = useState<unknown>();
  useEffect(() => {
    call<{ name?: string; role: string }>('/invitation', { method: 'POST', json: { token } }).then(
      setInvited,
      setRefusal,
    );
  }, [token]);
  const { submit, ...form } = useSubmit();
  const begin = async (): Promise<void> => {
    if (password !== again) throw new ApiError('invalid-argument', 'the two passwords differ', 400);
    await call('/invitation/accept', {
      method: 'POST',
      json: { token, password, ...(invited?.name ? {} : { name }) },
    });
    await enter(done);
  };
  if (refusal !== undefined || !invited)
    return (
      <main className="card">
        <h1>Welcome</h1>
        {refusal !== undefined && <Problem error={refusal} />}
        <p>
          <a href="/">Sign in</a>
        </p>
      </main>
    );
  return (
    <Card
      title={invited.name ? `Welcome, ${invited.name}` : 'Welcome to Stowage'}
      verb="Begin"
      submit={() => submit(begin)}
      {...form}
    >
      <p>
        {invited.name ? 'Choose your password.' : 'You are the first. Choose your name and your password.'}{' '}
        Your role is {invited.role}.
      </p>
      {!invited.name && (
        <Field label="Name" value={name} onChange={setName} autoComplete="username" autoFocus isRequired />
      )}
      <Field
        label="Password"
        type="password"
        value={password}
        onChange={setPassword}
        autoComplete="new-password"
        hint="at least 12 characters"
        isRequired
      />
      <Field
        label="Password again"
        type="password"
        value={again}
        onChange={setAgain}
        autoComplete="new-password"
        isRequired
      />
    </Card>
  );
}
