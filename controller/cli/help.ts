import type { Command } from 'commander';

/** What a program is told by the exit status. */
export const EXIT_STATUSES: readonly [number, string][] = [
  [0, 'done'],
  [1, 'failed'],
  [2, 'the command was wrong'],
  [3, 'no such thing'],
  [4, 'it is in the way: exists, in use, has snapshots'],
  [5, 'not allowed'],
  [6, 'controller or host unreachable'],
  [130, 'interrupted or cancelled'],
];

export const ENVIRONMENT: readonly [string, string][] = [
  ['STOWAGE_URL', 'the controller, such as http://127.0.0.1:7070'],
  ['STOWAGE_TOKEN', 'who you are'],
  ['STOWAGE_FINGERPRINT', 'of the certificate of a controller that made its own, as it prints it'],
  [
    'STOWAGE_DATA',
    'the data directory of a controller on this machine, which says both where they are not set; root needs to set nothing where the Debian package runs',
  ],
  ['VISUAL, EDITOR', 'for pool edit'],
  ['TZ', 'the time zone of times'],
];

/** By command, as they are typed after `stowage`. */
export const EXAMPLES: Readonly<Record<string, readonly string[]>> = {
  status: ['status', 'status --json'],
  'host add': [
    'host add alpha ssh://root@10.0.0.5 --accept-new',
    'host add beta ssh://beta --identity ~/.ssh/fleet --fingerprint SHA256:ZmAKaOa0Xwzr2sO6vWOxg/scD49BmFmVQdwB8sDG8IA',
  ],
  'host token': ['host token gamma'],
  'host list': ['host list', 'host list -o csv --columns name,state'],
  'host label': ['host label alpha prod rack=3', 'host label alpha prod-'],
  'host show': ['host show alpha'],
  'host doctor': ['host doctor alpha'],
  'host devices': ['host devices alpha', 'host devices alpha --server nas1'],
  'host remove': ['host remove alpha --yes'],
  'pool create': [
    'pool create alpha/data --type dir --target /srv/volumes',
    'pool create alpha pool.xml --no-autostart',
  ],
  'pool define': ['pool define alpha pool.xml --build --start'],
  'pool dumpxml': ['pool dumpxml alpha/data'],
  'pool create-as': ['pool create-as alpha vg0 logical --source-name vg0'],
  'pool define-as': ['pool define-as alpha data dir --target /srv/volumes --print-xml'],
  'pool edit': ['pool edit alpha/data'],
  'pool capabilities': ['pool capabilities alpha'],
  'pool locks': ['pool locks alpha/data'],
  'pool find-sources': ['pool find-sources alpha logical'],
  'pool list': ['pool list', 'pool list alpha --sort -available'],
  'pool show': ['pool show alpha/data'],
  'secret define': ['secret define iscsi nas1 --for alpha/data'],
  'secret list': ['secret list'],
  'secret delete': ['secret delete 7c0f0a5e-9d5e-4f0a-8f0c-3f3d1a2b4c5d --yes'],
  'pool orphans': ['pool orphans alpha/data', 'pool orphans alpha/data --sort -allocation'],
  'pool limit': ['pool limit alpha/data --warning 70 --provisioned 150', 'pool limit alpha/data --reset'],
  'pool build': ['pool build alpha/disk --no-overwrite'],
  'pool start': ['pool start alpha/data'],
  'pool stop': ['pool stop alpha/data'],
  'pool refresh': ['pool refresh alpha/data'],
  'pool delete': ['pool delete alpha/data'],
  'trash list': ['trash list', 'trash list alpha/data --sort kept-until'],
  'trash restore': ['trash restore alpha/data/3f9c0a7be421', 'trash restore alpha/data/3f9c0a7be421 web-old'],
  'trash empty': [
    'trash empty alpha/data --expired',
    'trash empty alpha/data 3f9c0a7be421 --yes',
    'trash empty alpha/data --all --wipe --limit 50M',
  ],
  'vol create': [
    'vol create alpha/data/web --capacity 10G --format qcow2',
    'vol create alpha/data --xml volume.xml',
  ],
  'vol list': [
    'vol list alpha/data',
    'vol list --format qcow2 --sort -allocation -o wide',
    'vol list --search disk-0 --user web --older-than 90d',
    "vol list --format qcow2 -q | xargs -d '\\n' -n1 stowage vol check",
  ],
  'vol show': ['vol show alpha/data/web'],
  'vol blockdev': ['vol blockdev alpha/data/web --node-name disk0'],
  'vol map': ['vol map alpha/data/web'],
  'vol unmap': ['vol unmap alpha/data/web'],
  'vol set-secret': ['vol set-secret alpha/data/web disks'],
  'vol resize': ['vol resize alpha/data/web 20G', 'vol resize alpha/data/web +5G'],
  'vol clone': [
    'vol clone alpha/data/web web-copy',
    'vol clone alpha/data/debian web --linked',
    'vol clone alpha/data/web web-test --linked --snapshot before',
  ],
  'vol rename': ['vol rename alpha/data/web shop'],
  'vol base': ['vol base alpha/data/debian', 'vol base alpha/data/debian --undo'],
  'vol set': ['vol set alpha/data/web --protected on --notes accounts'],
  'vol wipe': ['vol wipe alpha/data/web --algorithm random'],
  'vol check': ['vol check alpha/data/web'],
  'vol repair': ['vol repair alpha/data/web'],
  'vol delete': [
    'vol delete alpha/data/web --delete-snapshots',
    'vol delete alpha/data/a alpha/data/b --yes',
    'vol delete alpha/data/web --wipe --limit 50M',
  ],
  'vol upload': [
    'vol upload image.qcow2 alpha/data/web --format qcow2',
    'vol upload image.vmdk alpha/data/web --source-format vmdk --format qcow2',
  ],
  'vol download': [
    'vol download alpha/data/web web.raw --as content',
    'vol download alpha/data/web - | zstd > web.zst',
    'vol download alpha/data/web web.raw --snapshot before-upgrade',
  ],
  'vol dumpxml': ['vol dumpxml alpha/data/web'],
  'vol copy': [
    'vol copy alpha/data/web beta/backup',
    'vol copy alpha/data/web beta/backup --refresh --limit 50M',
    'vol copy alpha/data/web beta/backup --refresh --snapshot nightly',
    'vol copy alpha/tank/web beta/backup --refresh --with-snapshots',
  ],
  'vol migrate': [
    'vol migrate alpha/tank/web beta/tank --with-snapshots',
    'vol migrate alpha/data/web beta/data',
    'vol migrate alpha/data/web beta/data/ct101 --format ploop --keep-source --limit 50M',
  ],
  'vol snapshot create': ['vol snapshot create alpha/data/web before-upgrade'],
  'vol snapshot list': ['vol snapshot list alpha/data/web'],
  'vol snapshot rename': ['vol snapshot rename alpha/data/web before-upgrade debian-12'],
  'vol snapshot switch': ['vol snapshot switch alpha/data/web before-upgrade'],
  'vol snapshot delete': ['vol snapshot delete alpha/data/web before-upgrade'],
  'domain define': ['domain define alpha web.xml'],
  'domain dumpxml': ['domain dumpxml alpha/web --inactive'],
  'domain list': ['domain list alpha'],
  'domain undefine': ['domain undefine alpha/web'],
  'domain start': ['domain start alpha/web'],
  'domain destroy': ['domain destroy alpha/web'],
  'domain attach-device': ['domain attach-device alpha/web disk.xml --config'],
  'domain detach-device': ['domain detach-device alpha/web disk.xml --config'],
  'domain update-device': ['domain update-device alpha/web disk.xml --live'],
  'job list': ['job list --state running', 'job list --watch'],
  'job show': ['job show 12'],
  'job watch': ['job watch 12'],
  'image list': ['image list', 'image list alpha --vmid 100 -o wide'],
  'image alloc': ['image alloc alpha/data 100 32G --format qcow2'],
  'image free': ['image free alpha/data/vm-100-disk-0.qcow2 --yes'],
  'image base': ['image base alpha/data/vm-9000-disk-0.raw'],
  'image assign': ['image assign alpha/data/vm-100-disk-1.raw 101'],
  'image clone': [
    'image clone alpha/data/base-9000-disk-0.raw 101',
    'image clone alpha/data/base-9000-disk-0.raw 102 --to beta/tank',
  ],
  'pvesm status': ['pvesm status --node alpha'],
  'pvesm apiinfo': ['pvesm apiinfo'],
  'pvesm list': ['pvesm list data --vmid 100'],
  'pvesm alloc': ['pvesm alloc data 100 vm-100-disk-1.qcow2 4G'],
  'pvesm free': ['pvesm free data:100/vm-100-disk-1.qcow2'],
  'pvesm path': ['pvesm path data:100/vm-100-disk-1.qcow2'],
  'pvesm export': ['pvesm export data:100/vm-100-disk-1.qcow2 raw+size - > disk'],
  'pvesm import': ['pvesm import data:100/vm-100-disk-2.raw raw+size disk --allow-rename 1'],
  'pvesm scan': ['pvesm scan nfs 192.0.2.10'],
  'job cancel': ['job cancel 12'],
  'job pause': ['job pause 12'],
  'job resume': ['job resume 12'],
  'job retry': ['job retry 12 --no-wait'],
  'job dismiss': ['job dismiss 12 13'],
  'audit list': ['audit list --since 2h --by admin', 'audit list --host alpha --limit 500 -o csv'],
  'audit verify': ['audit verify'],
  'audit witnesses': ['audit witnesses', 'audit witnesses --key'],
  'audit export': ['audit export > trail.jsonl'],
  'token create': [
    'token create backup --role viewer --days 90',
    'token create web-team --role operator --scope alpha --scope beta/images',
    'token create night-shift --role operator --scope @prod',
  ],
  'user list': ['user list'],
  'user invite': ['user invite ada --role admin', 'user invite night --role operator --scope @prod'],
  'user invitations': ['user invitations'],
  'user withdraw': ['user withdraw ada'],
  'user reset': ['user reset ada'],
  'user set': ['user set ada --role viewer', 'user set ada --everywhere'],
  'user remove': ['user remove ada'],
  'token list': ['token list'],
  'token revoke': ['token revoke backup'],
  'xml format': ['xml format pool pool.xml'],
  'xml validate': ['xml validate domain web.xml'],
  completion: [
    'completion bash > /etc/bash_completion.d/stowage',
    'completion fish > ~/.config/fish/completions/stowage.fish',
  ],
};

/** How a command is typed after `stowage`. */
export function pathOf(command: Command): string {
  return command.parent ? `${pathOf(command.parent)} ${command.name()}`.trim() : '';
}

const list = (title: string, rows: readonly (readonly [string | number, string])[]): string => {
  const width = Math.max(...rows.map(([name]) => String(name).length));
  return `\n${title}:\n${rows.map(([name, text]) => `  ${String(name).padEnd(width)}  ${text}`).join('\n')}`;
};

/** Examples in the help of each command; the environment and the exit statuses in that of all. */
export function addHelp(program: Command): void {
  program.addHelpText('after', () => list('Environment', ENVIRONMENT) + list('\nExit status', EXIT_STATUSES));
  const add = (command: Command): void => {
    const examples = EXAMPLES[pathOf(command)];
    if (examples) {
      const lines = examples.map((example) => `  stowage ${example}`);
      command.addHelpText('after', `\nExamples:\n${lines.join('\n')}`);
    }
    for (const child of command.commands) add(child);
  };
  add(program);
}
