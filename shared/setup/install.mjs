// Installs what a fresh checkout lacks. Runs on whatever Node the machine has, so it is plain JavaScript and uses
// nothing but Node itself. What it installs, Node 24 included, is what the lock file says.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));
const modules = join(root, 'node_modules');
const stamp = join(modules, '.stowage-installed');
const wanted = createHash('sha256')
  .update(readFileSync(join(root, 'package-lock.json')))
  .digest('hex');

/** Runs a command in the checkout; its output is shown only when it fails. */
function run(command, args, env = {}) {
  const result = spawnSync(command, args, { cwd: root, encoding: 'utf8', env: { ...process.env, ...env } });
  return {
    ok: result.status === 0,
    output: `${result.stdout ?? ''}${result.stderr ?? ''}${result.error ?? ''}`,
  };
}

function need(what, command, args, env) {
  const { ok, output } = run(command, args, env);
  if (ok) return;
  console.error(`setup: ${what} failed:\n${output}`);
  process.exit(1);
}

if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== wanted) {
  console.error('setup: installing packages (once) …');
  need('npm ci', 'npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund']);
  // The one script that must run: it puts Node 24 itself into node_modules.
  need('installing Node 24', 'npm', ['rebuild', 'node']);
  const arch = join(modules, 'node/node_modules', `node-linux-${process.arch}`);
  const path = `${join(modules, '.bin')}:${process.env.PATH}`;
  // ssh2 works without its addon, but encrypts in JavaScript then. It must be built for Node 24, not for this Node.
  const addon = run('npm', ['rebuild', 'ssh2'], {
    PATH: path,
    npm_config_nodedir: existsSync(join(arch, 'include')) ? arch : '',
  });
  if (!addon.ok || !existsSync(join(modules, 'ssh2/lib/protocol/crypto/build/Release/sshcrypto.node'))) {
    console.error(
      'setup: the ssh2 addon was not built (it needs python3, make and g++); SSH links will be slower',
    );
  }
  writeFileSync(stamp, wanted);
}
