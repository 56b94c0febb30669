import { cpSync, readFileSync } from 'node:fs';
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
import { copyright } from './licences.ts';
import { childrenOf } from './man-page.ts';
import { sources } from './sources.ts';
import { gzip, NODE, ROOT, read, scriptsIn, type Tree } from './tree.ts';

/** Fills the tree of a package, and gives what it says of itself. */
export type Package = (tree: Tree) => Contents | Promise<Contents>;

/** Node.js of the checkout, whatever Node.js runs this. */
const NODE_PACKAGE = join(ROOT, `node_modules/node/node_modules/node-linux-${process.arch}`);
const NODE_VERSION: string = JSON.parse(
  readFileSync(join(ROOT, 'node_modules/node/package.json'), 'utf8'),
).version;
const NEEDS_NODE = `stowage-node (>= ${NODE_VERSION.split('.')[0]})`;

const node: Package = (tree) => {
  cpSync(join(NODE_PACKAGE, 'bin/node'), join(tree.directory(dirname(NODE)), basename(NODE)));
  tree.putDocuments('stowage-node', readFileSync(join(NODE_PACKAGE, 'LICENSE'), 'utf8'));
  return {
    name: 'stowage-node',
    version: NODE_VERSION,
    depends: ['libstdc++6', 'libgcc-s1'],
    summary: 'Node.js for the programs of Stowage',
    description: 'It lies apart from any other Node.js of the machine, and is in no PATH.',
  };
};

/** Programs that need nothing of the rest, and what they are made of. */
const STANDALONE = [
  'stowage-verify.ts',
  'witness/stowage-witness.ts',
  'witness/memory.ts',
  'witness/advance.ts',
  'witness/proof.ts',
];

const cli: Package = async (tree) => {
  const library = 'usr/lib/stowage/cli';
  const bundled = await bundleCommand(tree.directory(library));
  tree.directory(`${library}/witness`);
  for (const file of STANDALONE) cpSync(join(ROOT, 'controller/audit', file), join(tree.path, library, file));
  tree.putCommand('stowage', `${library}/stowage.mjs`);
  tree.putCommand('stowage-verify', `${library}/stowage-verify.ts`);
  tree.putCommand('stowage-witness', `${library}/witness/stowage-witness.ts`);
  for (const name of ['stowage-verify', 'stowage-witness'])
    tree.put(`usr/share/man/man1/${name}.1.gz`, gzip(read(`cli/${name}.1`)));
  tree.put('usr/share/bash-completion/completions/stowage', `${SHELLS.bash}\n`);
  tree.put('usr/share/zsh/vendor-completions/_stowage', `${SHELLS.zsh}\n`);
  tree.put('usr/share/fish/vendor_completions.d/stowage.fish', `${SHELLS.fish}\n`);
  const program = makeProgram();
  const commands = childrenOf(program);
  const page = {
    section: 1 as const,
    common: outputOptions(),
    examples: EXAMPLES,
    environment: ENVIRONMENT,
    exitStatuses: EXIT_STATUSES,
  };
  const pages = commands.map((each) => `stowage-${each.name()}(1)`);
  tree.putManual(program, { ...page, isOverview: true, seeAlso: [...pages, 'stowage-controller(8)'] });
  for (const command of commands) tree.putManual(command, { ...page, seeAlso: ['stowage(1)'] });
  tree.putDocuments('stowage-cli', copyright(bundled));
  return {
    name: 'stowage-cli',
    architecture: 'all',
    depends: [NEEDS_NODE],
    summary: 'command line of Stowage',
    description: `The command stowage, with which the pools and volumes of a fleet of hosts are
looked at and worked on, stowage-verify, which checks an export of the audit
trail, and stowage-witness, which sees the trails of others grow.`,
  };
};

const agent: Package = async (tree) => {
  const library = 'usr/lib/stowage/agent';
  const bundled = await bundleAgent(join(tree.directory(library), 'stowage-agent.mjs'));
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
  tree.putDocuments('stowage-agent', copyright([...bundled, 'node_modules/koffi/index.js']));
  return {
    name: 'stowage-agent',
    depends: [NEEDS_NODE],
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
  for (const file of sources(['agent', 'controller', 'shared', 'package.json', 'tsconfig.json', 'LICENSE']))
    if (!file.startsWith('shared/setup/')) cpSync(join(ROOT, file), join(directory, file));
  const libraries = copyLibraries(directory);
  const file = '/etc/stowage/controller.yaml';
  tree.putCommand('stowage-controller', `${library}/controller/main.ts`, read('controller/before-command'));
  tree.put(
    'usr/lib/systemd/system/stowage-controller.service',
    read('controller/stowage-controller.service'),
  );
  tree.put('usr/lib/sysusers.d/stowage-controller.conf', read('controller/sysusers.conf'));
  tree.put(file.slice(1), read('controller/controller.yaml'));
  tree.putManual(controllerProgram, {
    section: 8,
    description: `Run without a command it is the controller, until it gets SIGTERM or SIGINT: stowage-controller.service does so. Run by root it works as the user stowage, but for backup and restore. In /etc/stowage/controller.yaml the options stand without their dashes; what it may say beside them is in README.md, with alert rules for Prometheus and a board for Grafana, in /usr/share/doc/stowage-controller.`,
    exitStatuses: [
      [0, 'done'],
      [1, 'failed'],
    ],
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
  tree.putDocuments('stowage-controller', copyright(libraries.map((path) => `${path}/`)));
  const documents = 'usr/share/doc/stowage-controller';
  tree.put(`${documents}/README.md.gz`, gzip(readFileSync(join(ROOT, 'README.md'))));
  for (const name of ['alerts.yml', 'dashboard.json'])
    tree.put(`${documents}/${name}`, readFileSync(join(ROOT, 'controller/metrics', name)));
  return {
    name: 'stowage-controller',
    depends: [NEEDS_NODE, 'libstdc++6', 'passwd'],
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
