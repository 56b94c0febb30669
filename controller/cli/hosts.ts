import { resolve } from 'node:path';
import { Command } from 'commander';
import type { NodeDevice, NodeDevices } from '../../shared/conf/node-device.ts';
import type { DoctorFinding } from '../../shared/protocol/agent.ts';
import type { AgentFile, Enrolment, Host, HostDetails } from '../../shared/protocol/api.ts';
import {
  connectCommand,
  type EnrolmentPlace,
  fetchCommands,
  packageCommands,
  reachedAt,
} from '../../shared/protocol/enrolment-commands.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { formatBytes } from '../../shared/util/units.ts';
import { callJson, controllerOrigin, send } from './client.ts';
import { type Confirmation, confirm, yesOption } from './confirm.ts';
import { type Listing, type ListOptions, listOptions, showList, table, timeColumn } from './listing.ts';
import { fields, printable, show, time } from './output.ts';
import { callPages } from './pages.ts';
import { hostPath } from './references.ts';
import { resolveSshHost } from './ssh-config.ts';

function where(host: Host): string {
  const { link } = host;
  switch (link.kind) {
    case 'ssh':
      return `ssh://${link.user}@${link.hostname}:${link.port}`;
    case 'websocket':
      return link.enrolled ? 'dials in' : 'has not dialled in yet';
    case 'local':
      return 'this machine';
  }
}

/** What to do on the host, word for word. */
function enrolmentText({ token, expiresAt, ...place }: Enrolment & EnrolmentPlace): string {
  return [
    `token    ${token}`,
    `expires  ${time(expiresAt)}`,
    '',
    'On the host, as root and with Node 24 or later, where it reaches the controller by this URL:',
    '',
    // What is compared begins its line.
    ...fetchCommands(place).map((line) => (/^(curl|sha256sum)/.test(line) ? `  ${line}` : line)),
    '  (umask 077 && cat > token)          # the token, then Ctrl-D',
    `  ${connectCommand(place)}`,
    '',
    'With the Debian package stowage-agent, as root:',
    '',
    ...packageCommands(place).map((line) => `  ${line}`),
  ].join('\n');
}

const HOSTS: Listing<Host> = {
  name: (host) => host.name,
  columns: [
    { name: 'NAME', value: (host) => host.name },
    { name: 'LINK', value: (host) => host.link.kind },
    { name: 'STATE', value: (host) => host.state },
    timeColumn('SINCE', (host) => host.since),
    { name: 'WHERE', value: where },
    { name: 'REASON', value: (host) => host.reason },
    { name: 'LABELS', value: (host) => host.labels.join(' '), wide: true },
    { name: 'AGENT', value: (host) => host.agentId, wide: true },
    { ...timeColumn<Host>('ADDED', (host) => host.createdAt), wide: true },
  ],
};

function describe(host: HostDetails): string {
  const { agent } = host;
  return fields([
    ['host', host.name],
    ['labels', host.labels.join(' ')],
    ['link', `${host.link.kind}, ${where(host)}`],
    ['host key', host.link.kind === 'ssh' ? host.link.fingerprint : undefined],
    ['state', `${host.state} since ${time(host.since)}`],
    ['reason', host.reason],
    [
      'agent',
      agent && `${agent.version}, pid ${agent.pid} on ${agent.hostname}, ${formatBytes(agent.rssBytes)}`,
    ],
    [
      'backends',
      agent?.backends
        .map((backend) => `${backend.type}${backend.usable ? '' : ` (${backend.reason})`}`)
        .join(', '),
    ],
  ]);
}

const DEVICES: Listing<NodeDevice> = {
  name: ({ name }) => name,
  columns: [
    { name: 'DEVICE', value: ({ name }) => name },
    { name: 'KIND', value: ({ kind }) => kind },
    {
      name: 'SIZE',
      value: ({ sizeBytes }) => sizeBytes,
      text: ({ sizeBytes }) => (sizeBytes === undefined ? '' : formatBytes(sizeBytes)),
    },
    { name: 'HOLDS', value: ({ holds }) => holds ?? '' },
    { name: 'FOR-POOLS', value: ({ poolTypes }) => poolTypes.join(' ') },
    { name: 'POOL', value: ({ pool }) => pool },
    { name: 'MODEL', value: ({ model }) => model, wide: true },
    { name: 'SERIAL', value: ({ serial }) => serial, wide: true },
    { name: 'WWN', value: ({ wwn }) => wwn, wide: true },
    { name: 'TRANSPORT', value: ({ transport }) => transport, wide: true },
    { name: 'ON', value: ({ parent }) => parent, wide: true },
  ],
};

export function hostCommand(): Command {
  const host = new Command('host').description('the hosts of the fleet');
  host
    .command('add <name> <url>')
    .description('add a host by SSH, as ssh://user@addr[:port] or an alias of ~/.ssh/config as ssh://alias')
    .option('--identity <file>', 'private key file on the controller, tried before the keys of the SSH agent')
    .option('--fingerprint <fingerprint>', 'the host key you expect, as SHA256:…')
    .option('--accept-new', 'pin the key that the host shows now')
    .option('--no-wait', 'do not wait until the agent runs there')
    .action(
      async (
        name: string,
        url: string,
        options: { identity?: string; fingerprint?: string; acceptNew?: boolean; wait: boolean },
      ) => {
        const address = resolveSshHost(url);
        const json = {
          name,
          ...address,
          // One that is given goes before what ~/.ssh/config says.
          identities: options.identity === undefined ? address.identities : [resolve(options.identity)],
          fingerprint: options.fingerprint,
          acceptNew: Boolean(options.acceptNew),
        };
        await callJson<Host>('/hosts', { method: 'POST', json });
        await show(
          options.wait ? await untilReachable(name) : await callJson<HostDetails>(hostPath(name)),
          describe,
        );
      },
    );
  host
    .command('token <name>')
    .description('make a one-time token with which an agent may dial in as NAME')
    .option('--replace', 'also where an agent is enrolled as NAME; it is thrown out when the token is used')
    .action(async (name: string, { replace = false }: { replace?: boolean }) => {
      const made = await callJson<Enrolment>(`${hostPath(name)}/enrolment`, {
        method: 'POST',
        json: { replace },
      });
      const url = reachedAt(made.url, controllerOrigin());
      const enrolment = { ...made, url, files: await callJson<AgentFile[]>('/agent') };
      await show(enrolment, () => enrolmentText(enrolment), { isRemark: false });
    });
  listOptions(host.command('list'), { followed: true })
    .description('all hosts, how they are reached, and whether they are')
    .option('--label <label>', 'only those that have it')
    .action(({ label, ...options }: ListOptions & { label?: string }) =>
      showList(HOSTS, () => callPages<Host>('/hosts', { label }, ({ name }) => name), options),
    );
  host
    .command('label <host> <labels...>')
    .description('give a host labels such as prod or rack=3; LABEL- takes one away')
    .action(async (name: string, labels: string[]) => {
      const json = {
        add: labels.filter((label) => !label.endsWith('-')),
        remove: labels.filter((label) => label.endsWith('-')).map((label) => label.slice(0, -1)),
      };
      const changed = await callJson<Host>(`${hostPath(name)}/labels`, { method: 'POST', json });
      await show(changed, () => `host ${printable(name)}: ${changed.labels.join(' ') || 'no labels'}`);
    });
  host
    .command('show <host>')
    .description('a host, its agent and the kinds of pools that work there')
    .action(async (name: string) => show(await callJson<HostDetails>(hostPath(name)), describe));
  host
    .command('doctor <host>')
    .description('what the host has and lacks; exit status 1 when something is missing')
    .action(async (name: string) => {
      const findings = await callJson<DoctorFinding[]>(`${hostPath(name)}/doctor`);
      await show(findings, () =>
        table(
          ['', 'WHAT', 'DETAIL', 'REMEDY'],
          findings.map(({ ok, name: what, detail, remedy }) => [
            ok ? 'ok' : 'MISS',
            what,
            detail,
            remedy ?? '',
          ]),
        ),
      );
      if (findings.some((finding) => !finding.ok)) process.exitCode = 1;
    });
  listOptions(host.command('devices <host>'))
    .description('what pools of the host could be made of: disks, adapters, volume groups, exports')
    .option('--server <name>', 'what another host gives out: exports, targets, volumes')
    .action(async (name: string, options: ListOptions & { server?: string }) => {
      const query = options.server === undefined ? '' : `?server=${encodeURIComponent(options.server)}`;
      const { devices, problems } = await callJson<NodeDevices>(`${hostPath(name)}/devices${query}`);
      await showList(DEVICES, async () => devices, options);
      for (const problem of problems) process.stderr.write(`stowage: ${printable(problem)}\n`);
    });
  host
    .command('remove <host>')
    .description('forget a host; its pools and volumes stay on it')
    .addOption(yesOption())
    .action(async (name: string, options: Confirmation) => {
      await confirm(`Forget the host '${name}'?`, options);
      await send(hostPath(name), { method: 'DELETE' });
      await show(
        { removed: name },
        () => `host ${printable(name)} is forgotten; what is on it stays as it is`,
      );
    });
  return host;
}

/** Putting the agent on a host takes seconds; what goes wrong shows as the host's reason. */
async function untilReachable(name: string): Promise<Host> {
  const deadline = Date.now() + 120_000;
  for (;;) {
    const host = await callJson<HostDetails>(hostPath(name));
    if (host.state === 'reachable') return host;
    if (host.state === 'unreachable' && host.reason && Date.now() - host.createdAt > 15_000) {
      throw new StowageError('host-unreachable', `the host was added but is unreachable: ${host.reason}`);
    }
    if (Date.now() > deadline)
      throw new StowageError(
        'host-unreachable',
        'the host was added but the agent is not up yet; see: stowage host show',
      );
    await new Promise((done) => setTimeout(done, 300));
  }
}
