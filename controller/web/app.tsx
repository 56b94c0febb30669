import { useQuery } from '@tanstack/react-query';
import { type ReactNode, useEffect, useState } from 'react';
import { Link, RouterProvider } from 'react-aria-components';
import { Route, Switch, useLocation } from 'wouter';
import { partsOfPath } from './api/address.ts';
import { call, onSignedOut } from './api/client.ts';
import { useEvents, useIsLive } from './api/events.ts';
import { client, fleetQuery } from './api/queries.ts';
import { useMay, WHOLE } from './api/rights.ts';
import { forgetUploads, useUploads } from './api/upload.ts';
import { Account } from './pages/account.tsx';
import { Audit } from './pages/audit.tsx';
import { HostPage } from './pages/host.tsx';
import { Hosts } from './pages/hosts.tsx';
import { JobPage, Jobs } from './pages/jobs.tsx';
import { Overview } from './pages/overview.tsx';
import { People } from './pages/people.tsx';
import { Pool } from './pages/pool.tsx';
import { Pools } from './pages/pools.tsx';
import { Secrets } from './pages/secrets.tsx';
import { SignIn, Welcome } from './pages/sign-in.tsx';
import { Tokens } from './pages/tokens.tsx';
import { Volume } from './pages/volume.tsx';
import { Volumes } from './pages/volumes.tsx';
import { A, Badge, Button, Empty, Page, Problem } from './parts/basics.tsx';
import { ErrorBoundary } from './parts/error-boundary.tsx';
import { Palette } from './parts/palette.tsx';
import { sectionsFor } from './parts/sections.ts';
import { forgetToasts, Toasts, toast } from './parts/toasts.tsx';

function Navigation() {
  const [path] = useLocation();
  const may = useMay();
  const uploads = useUploads().filter(({ state }) => state === 'running' || state === 'waiting').length;
  return (
    <nav aria-label="Sections">
      <ul>
        {sectionsFor(may).map(({ to, name }) => {
          const isHere = to === '/' ? path === '/' : path.startsWith(to);
          return (
            <li key={to}>
              <Link href={to} aria-current={isHere ? 'page' : undefined}>
                {name}
                {to === '/jobs' && uploads > 0 && <Badge tone="busy">{uploads}</Badge>}
              </Link>
            </li>
          );
        })}
      </ul>
    </nav>
  );
}

const NotYours = () => (
  <Page title="Not for you">
    <Empty>
      Your role does not let you see this. <A to="/">Overview</A>
    </Empty>
  </Page>
);

const NoSuchPage = () => (
  <Page title="There is no such page">
    <Empty>
      <A to="/">Overview</A>
    </Empty>
  </Page>
);

/** What is about the thing that the address names. */
function At({ children }: { children(host: string, pool: string, volume: string): ReactNode }) {
  const [, host = '', pool = '', volume = ''] = partsOfPath(location.pathname) ?? [];
  return host === '' ? <NoSuchPage /> : children(host, pool, volume);
}

function Shell({ signOut }: { signOut(): void }) {
  useEvents();
  const [path] = useLocation();
  const isLive = useIsLive();
  const { data: fleet, error, refetch } = useQuery(fleetQuery);
  const may = useMay();
  const [isPaletteOpen, setPaletteOpen] = useState(false);
  return (
    <>
      <a className="skip" href="#content">
        Skip to the content
      </a>
      <header className="top">
        <a className="brand" href="/">
          Stowage
        </a>
        <Button look="quiet" onPress={() => setPaletteOpen(true)} aria-keyshortcuts="Control+K">
          Go to … <kbd>Ctrl K</kbd>
        </Button>
        <span className="grow" />
        <span role="status">{!isLive && <Badge tone="warn">no live changes: connecting …</Badge>}</span>
        {fleet && (
          <A to="/account">
            {fleet.caller.name}, {fleet.caller.role}
          </A>
        )}
        <Button look="quiet" onPress={signOut}>
          Sign out
        </Button>
      </header>
      <Navigation />
      <main id="content">
        {error && <Problem error={error} retry={() => void refetch()} />}
        <ErrorBoundary key={path}>
          <Switch>
            <Route path="/" component={Overview} />
            <Route path="/volumes" component={Volumes} />
            <Route path="/volumes/:host/:pool/:volume">
              {() => (
                <At>
                  {(host, pool, volume) => (
                    <Volume key={`${host}/${pool}/${volume}`} place={{ host, pool, volume }} />
                  )}
                </At>
              )}
            </Route>
            <Route path="/pools" component={Pools} />
            <Route path="/pools/:host/:pool">
              {() => <At>{(host, pool) => <Pool key={`${host}/${pool}`} host={host} name={pool} />}</At>}
            </Route>
            <Route path="/hosts" component={Hosts} />
            <Route path="/hosts/:host">
              {() => <At>{(host) => <HostPage key={host} name={host} />}</At>}
            </Route>
            <Route path="/jobs" component={Jobs} />
            <Route path="/jobs/:job">{({ job }) => <JobPage key={job} id={Number(job)} />}</Route>
            <Route path="/audit" component={Audit} />
            <Route path="/secrets">{may('secret.list', WHOLE) ? <Secrets /> : <NotYours />}</Route>
            <Route path="/tokens">{may('token.list', WHOLE) ? <Tokens /> : <NotYours />}</Route>
            <Route path="/people">{may('user.list', WHOLE) ? <People /> : <NotYours />}</Route>
            <Route path="/account" component={Account} />
            <Route component={NoSuchPage} />
          </Switch>
        </ErrorBoundary>
      </main>
      <Palette isOpen={isPaletteOpen} setOpen={setPaletteOpen} />
      <Toasts />
    </>
  );
}

/** Nothing of somebody who is out is left for who comes next. */
function forget(): void {
  forgetUploads();
  forgetToasts();
  client.clear();
}

/** Whether somebody is signed in, and how they could. */
interface SignInState {
  isSignedIn: boolean;
  isNew: boolean;
  hasProvider: boolean;
}

export function App() {
  const [path, navigate] = useLocation();
  const [session, setSession] = useState<SignInState>();
  const [error, setError] = useState<unknown>();
  const look = (): void => {
    setError(undefined);
    call<SignInState>('/session').then(setSession, setError);
  };
  // biome-ignore lint/correctness/useExhaustiveDependencies: once
  useEffect(() => {
    onSignedOut(() => {
      forget();
      look();
    });
    look();
  }, []);
  const signOut = async (): Promise<void> => {
    try {
      await call('/session', { method: 'DELETE' });
    } catch (failure) {
      // They are in still, and must know it.
      return toast((failure as Error).message, true);
    }
    forget();
    look();
  };
  const enter = (): void => {
    client.clear();
    look();
    if (path === '/welcome') navigate('/');
  };
  const shown = error ? (
    <main className="card">
      <h1>Stowage</h1>
      <Problem error={error} retry={look} />
    </main>
  ) : path === '/welcome' ? (
    <Welcome done={enter} />
  ) : session === undefined ? null : session.isSignedIn ? (
    <Shell signOut={() => void signOut()} />
  ) : (
    <SignIn done={enter} {...session} />
  );
  return <RouterProvider navigate={navigate}>{shown}</RouterProvider>;
}
