import { useState } from 'react';
import { useLocation } from 'wouter';
import type { AgentFile, Enrolment, Host } from '../../../shared/protocol/api.ts';
import {
  connectCommand,
  type EnrolmentPlace,
  fetchCommands,
  packageCommands,
  reachedAt,
} from '../../../shared/protocol/enrolment-commands.ts';
import { ApiError, call, hostPath, linkTo } from '../api/client.ts';
import { Button, Problem } from '../parts/basics.tsx';
import { Dialog } from '../parts/dialog.tsx';
import { Choice, Field } from '../parts/form.tsx';
import { localTime } from '../parts/format.ts';
import { ShownOnce } from '../parts/shown-once.tsx';
import { useSubmit } from '../parts/submit.ts';
import { toast } from '../parts/toasts.tsx';

const FINGERPRINT = /SHA256:[A-Za-z0-9+/]{43}/;

type Invited = Enrolment & EnrolmentPlace;

/** What is typed on a host that dials in: the agent is fetched, compared with its digests, and started. */
const commandsOf = (invited: Invited): string =>
  [
    'umask 077; mkdir -p /var/lib/stowage-agent && cd /var/lib/stowage-agent',
    ...fetchCommands(invited),
    `cat > token <<'END'\n${invited.token}\nEND`,
    connectCommand(invited),
  ].join('\n');

/** The commands with the token in them, which is told this once. */
function EnrolmentShown({ invited, close }: { invited: Invited; close(): void }) {
  return (
    <ShownOnce title="Add a host" value={commandsOf(invited)} isLong close={close}>
      <p>Type this on the host, as root. The token is good once, until {localTime(invited.expiresAt)}.</p>
      <p>The host shows as reachable in the list as soon as its agent has dialled in.</p>
      <details>
        <summary>With the Debian package stowage-agent</summary>
        <p>
          The token: <code className="breaks">{invited.token}</code>
        </p>
        <pre className="commands">{packageCommands(invited).join('\n')}</pre>
      </details>
    </ShownOnce>
  );
}

/** Adds a host step by step: how it is reached, the key that it shows, and that it answers. */
export function AddHost({ close }: { close(): void }) {
  const [, navigate] = useLocation();
  const [way, setWay] = useState('ssh');
  const [name, setName] = useState('');
  const [user, setUser] = useState('root');
  const [hostname, setHostname] = useState('');
  const [port, setPort] = useState('22');
  const [fingerprint, setFingerprint] = useState<string>();
  const [invited, setInvited] = useState<Invited>();
  const { submit: work, error, isBusy } = useSubmit();
  const addBySsh = (known?: string): Promise<void> =>
    work(async () => {
      const json = { name, user, hostname, port: Number(port), fingerprint: known };
      try {
        await call<Host>('/hosts', { method: 'POST', json });
      } catch (failure) {
        const shown =
          failure instanceof ApiError &&
          failure.code === 'host-key-unknown' &&
          FINGERPRINT.exec(failure.message);
        if (!shown) throw failure;
        setFingerprint(shown[0]);
        return;
      }
      toast(`host ${name} is added; its agent is being put in place`);
      close();
      navigate(linkTo.host(name));
    });
  const invite = (): Promise<void> =>
    work(async () => {
      const files = await call<AgentFile[]>('/agent');
      const made = await call<Enrolment>(`${hostPath(name)}/enrolment`, { method: 'POST', json: {} });
      setInvited({ ...made, url: reachedAt(made.url, location.origin), files });
    });
  if (invited) return <EnrolmentShown invited={invited} close={close} />;

  return (
    <Dialog title="Add a host" isOpen close={close} isHeld={isBusy}>
      <div className="form">
        {fingerprint ? (
          <>
            <p>{hostname} shows this key, which is not known here:</p>
            <p>
              <code>{fingerprint}</code>
            </p>
            <p>
              Compare it on the host itself: <code>ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub</code>. If
              it is another one, somebody is between you and the host.
            </p>
          </>
        ) : (
          <>
            <Choice
              label="How it is reached"
              value={way}
              onChange={setWay}
              options={[
                { id: 'ssh', label: 'by SSH, from the controller' },
                { id: 'websocket', label: 'it dials in, such as from behind NAT' },
              ]}
            />
            <Field label="Name" value={name} onChange={setName} autoFocus isRequired />
            {way === 'ssh' && (
              <>
                <Field
                  label="Address"
                  value={hostname}
                  onChange={setHostname}
                  placeholder="10.0.0.5"
                  isRequired
                />
                <Field
                  label="User"
                  value={user}
                  onChange={setUser}
                  hint="root, or one who may use sudo without a password"
                />
                <Field label="Port" value={port} onChange={setPort} inputMode="numeric" />
              </>
            )}
          </>
        )}
        {error !== undefined && <Problem error={error} />}
        <footer>
          <Button onPress={close}>Cancel</Button>
          <Button
            look="primary"
            isBusy={isBusy}
            isDisabled={name === '' || (way === 'ssh' && hostname === '')}
            onPress={() => void (way === 'ssh' ? addBySsh(fingerprint) : invite())}
          >
            {fingerprint ? 'It is the same: add the host' : way === 'ssh' ? 'Go on' : 'Make a token'}
          </Button>
        </footer>
      </div>
    </Dialog>
  );
}
