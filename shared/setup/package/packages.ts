import { cpSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { program as agentProgram } from '../../../agent/program.ts';
import { SHELLS } from '../../../controller/cli/completion.ts';
import { ENVIRONMENT, EXAMPLES, EXIT_STATUSES } from '../../../controller/cli/help.ts';
import { bundleCommand } from '../../../controller/cli/install.ts';
import { outputOptions } from '../../../controller/cli/output.ts';
import { makeProgram } from '../../../controller/cli/program.ts';
import { bundleAgent, nativeHelper } from '../../../controller/hosts/bundle.ts';
import { program as controllerProgram } from '../../../controller/program.ts';
import type { Contents } from './deb.ts';
import { copyLibraries } from './libraries.ts';
import { copyright, gzip, NODE, ROOT, read, scriptsIn, type Tree } from './tree.ts';

/** Fills the tree of a package, and gives what it says of itself. */
export type Package = (tree: Tree) => Contents | Promise<Contents>;

const NEEDS_NODE = `stowage-node (>= ${process.versions.node.split('.')[0]})`;

const node: Package = (tree) => {
  cpSync(process.execPath, join(tree.directory(dirname(NODE)), basename(NODE)));
  tree.putDocuments(
    'stowage-node',
    'Node.js is licensed under the MIT licence: https://github.com/nodejs/node/blob/main/LICENSE has it, and those of its parts.\n',
  );
  return {
    name: 'stowage-node',
    version: process.versions.node,
    depends: ['libc6 (>= 2.28)', 'libstdc++6', 'libgcc-s1'],
    summary: 'Node.js for the programs of Stowage',
    description: 'It lies apart from any other Node.js of the machine, and is in no PATH.',
  };
};

const cli: Package = async (tree) => {
  const library = 'usr/lib/stowage/cli';
  await bundleCommand(tree.directory(library));
  cpSync(
    join(ROOT, 'controller/audit/stowage-verify.ts'),
    join(tree.directory(library), 'stowage-verify.ts'),
  );
  tree.putCommand('stowage', `${library}/stowage.mjs`);
  tree.putCommand('stowage-verify', `${library}/stowage-verify.ts`);
  tree.put('usr/share/man/man1/stowage-verify.1.gz', gzip(read('cli/stowage-verify.1')));
  tree.put('usr/share/bash-completion/completions/stowage', `${SHELLS.bash}\n`);
  tree.put('usr/share/zsh/vendor-completions/_stowage', `${SHELLS.zsh}\n`);
  tree.put('usr/share/fish/vendor_completions.d/stowage.fish', `${SHELLS.fish}\n`);
  const program = makeProgram();
  const commands = program
    .createHelp()
    .visibleCommands(program)
    .filter((each) => each.name() !== 'help');
  const page = {
    section: 1 as const,
    common: outputOptions(),
    examples: EXAMPLES,
    environment: ENVIRONMENT,
    exitStatuses: EXIT_STATUSES,
  };
  const pages = commands.map((each) => `stowage-${each.name()}(1)`);
  tree.putManual(program, { ...page, seeAlso: [...pages, 'stowage-controller(8)'] });
  for (const command of commands) tree.putManual(command, { ...page, seeAlso: ['stowage(1)'] });
  tree.putDocuments('stowage-cli', copyright());
  return {
    name: 'stowage-cli',
    architecture: 'all',
    depends: [NEEDS_NODE],
    summary: 'command line of Stowage',
    description: `The command stowage, with which the pools and volumes of a fleet of hosts are
looked at and worked on, and stowage-verify, which checks an export of the
audit trail.`,
  };
};

const agent: Package = async (tree) => {
  const library = 'usr/lib/stowage/agent';
  await bundleAgent(join(tree.directory(library), 'stowage-agent.mjs'));
  cpSync(nativeHelper(), join(tree.directory(library), 'koffi.node'));
  tree.putCommand('stowage-agent', `${library}/stowage-agent.mjs`);
  tree.put('usr/lib/systemd/system/stowage-agent.service', read('agent/stowage-agent.service'));
  tree.put('etc/default/stowage-agent', read('agent/default'));
  tree.putManual(agentProgram, {
    section: 8,
    environment: [['STOWAGE_CONTROLLER', 'the controller that connect dials']],
    files: [
      ['/etc/default/stowage-agent', 'the environment of stowage-agent.service'],
      ['/var/lib/stowage-agent', 'what the agent knows of its pools, and its key'],
      ['/var/lib/stowage-agent/token', 'the token of its enrolment, until it is used'],
    ],
    seeAlso: ['stowage-controller(8)'],
  });
  tree.putDocuments('stowage-agent', copyright());
  return {
    name: 'stowage-agent',
    depends: [NEEDS_NODE, 'libc6 (>= 2.28)'],
    recommends: ['qemu-utils'],
    suggests: [
      'lvm2',
      'nfs-common',
      'open-iscsi',
      'multipath-tools',
      'glusterfs-client',
      'ceph-common',
      'ploop',
    ],
    summary: 'storage agent of Stowage',
    description: `It works on the storage pools and volumes of this host for a controller of
Stowage, which it dials. Hosts that the controller reaches by SSH need no
package.`,
    scripts: scriptsIn('agent'),
    conffiles: ['/etc/default/stowage-agent'],
  };
};

const controller: Package = (tree) => {
  const library = 'usr/lib/stowage/controller';
  const directory = tree.directory(library);
  for (const name of ['agent', 'controller', 'shared'])
    cpSync(join(ROOT, name), join(directory, name), {
      recursive: true,
      filter: (path) => path !== join(ROOT, 'shared/setup'),
    });
  for (const name of ['package.json', 'LICENSE']) cpSync(join(ROOT, name), join(directory, name));
  copyLibraries(directory);
  const file = '/etc/stowage/controller.yaml';
  // Who says none has this one; who says an empty one has none.
  tree.putCommand(
    'stowage-controller',
    `${library}/controller/main.ts`,
    `: "\${STOWAGE_CONFIG=${file}}"\nexport STOWAGE_CONFIG\n`,
  );
  tree.put(
    'usr/lib/systemd/system/stowage-controller.service',
    read('controller/stowage-controller.service'),
  );
  tree.put('usr/lib/sysusers.d/stowage-controller.conf', read('controller/sysusers.conf'));
  tree.put(file.slice(1), read('controller/controller.yaml'));
  tree.putManual(controllerProgram, {
    section: 8,
    environment: [
      [
        'STOWAGE_STORE',
        'the postgres:// URL of the store; without it the store is SQLite in the data directory',
      ],
    ],
    files: [
      [file, 'the configuration'],
      ['/var/lib/stowage', 'the store, the keys, and the token of the administrator'],
    ],
    seeAlso: ['stowage(1)', 'stowage-agent(8)'],
  });
  tree.putDocuments(
    'stowage-controller',
    copyright(`\nThey lie in /${library}/node_modules, each with its licence.`),
  );
  return {
    name: 'stowage-controller',
    depends: [NEEDS_NODE, 'libc6 (>= 2.28)', 'libstdc++6', 'passwd'],
    recommends: ['stowage-cli'],
    suggests: ['stowage-agent', 'postgresql'],
    summary: 'controller of Stowage',
    description: `It keeps the inventory of a fleet of storage hosts, moves volumes between them,
and keeps the audit trail. Its page and its API answer on port 7070 of this
machine until the configuration says otherwise.`,
    scripts: scriptsIn('controller'),
    conffiles: [file],
  };
};

export const PACKAGES: readonly Package[] = [node, cli, agent, controller];
