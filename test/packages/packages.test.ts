import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { globSync, mkdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { buildPackages } from '../../shared/setup/package/build.ts';
import { VERSION } from '../../shared/version.ts';
import { TestSystem } from '../hosts/system.ts';
import { isRoot, scratch } from '../support/scratch.ts';

const OLD = `${VERSION}~old`;
const PATIENCE_MS = 60_000;
/** The worst that `systemd-analyze security` may say, of 100. */
const EXPOSURE = { controller: 18, agent: 70 };

/** The packages on a Debian that runs systemd, in their order of life: each test goes on where the one before has stopped. */
describe('Debian packages', { skip: !isRoot && 'only root boots a system' }, () => {
  const room = scratch();
  let system: TestSystem;

  before(async () => {
    const share = join(room.path, 'share');
    for (const version of [OLD, VERSION]) {
      mkdirSync(join(share, version), { recursive: true });
      await buildPackages(join(share, version), { version, compression: 'none' });
    }
    system = await TestSystem.boot(share);
  });
  after(async () => {
    await system?.[Symbol.asyncDispose]();
    await room[Symbol.asyncDispose]();
  });

  /** Runs a line until it says what is wanted. */
  async function until(line: string, wanted: RegExp): Promise<string> {
    for (const end = Date.now() + PATIENCE_MS; ; ) {
      const { stdout, stderr } = system.run(line);
      if (wanted.test(stdout + stderr)) return stdout + stderr;
      if (Date.now() > end)
        assert.fail(`${line}\n${stdout}${stderr}\n${system.run('journalctl --no-pager -n 50').stdout}`);
      await sleep(200);
    }
  }
  const journal = (unit: string): string => system.ok(`journalctl --no-pager -o cat -u ${unit}`);
  const install = (version: string, which = 'stowage-[ac]*'): string =>
    system.ok(`dpkg -i /share/${version}/${which}.deb 2>&1`);

  test('installed, the controller runs as a user of its own, and root works with it at once', async () => {
    install(OLD, '*');
    // The package is configured when the controller answers.
    assert.match(system.ok('stowage status'), /nothing needs attention/);
    assert.equal(system.ok('systemctl show -P User stowage-controller').trim(), 'stowage');
    assert.equal(
      system.ok('ps -o user= -p $(systemctl show -P MainPID stowage-controller)').trim(),
      'stowage',
    );
    assert.equal(
      system.ok('stat -c "%U %a" /var/lib/stowage /var/lib/stowage/stowage.db'),
      'stowage 700\nstowage 600\n',
    );
    assert.equal(system.ok('stat -c "%U:%G %a" /etc/stowage/controller.yaml'), 'root:stowage 640\n');
    assert.equal(
      system.ok('dpkg --verify stowage-controller stowage-agent stowage-cli stowage-node'),
      '',
      'all files are as they were packed',
    );
    assert.match(system.ok('stowage --version'), new RegExp(VERSION.replaceAll('.', '\\.')));
  });

  test('the page is there, and an export of the trail is verified', () => {
    const asked =
      'const page = await fetch("http://127.0.0.1:7070/"); const html = await page.text(); const script = /src="([^"]+)"/.exec(html)[1]; const asset = await fetch(new URL(script, page.url)); console.log(page.status, asset.status, (await asset.text()).length > 100000)';
    assert.equal(system.ok(`/usr/lib/stowage/node --input-type=module -e '${asked}'`), '200 200 true\n');
    system.ok('stowage audit export > /root/trail');
    system.ok(
      `stowage audit verify --json | /usr/lib/stowage/node -e 'let text = ""; process.stdin.on("data", (part) => { text += part; }).on("end", () => process.stdout.write(JSON.parse(text).publicKey))' > /root/key`,
    );
    assert.match(system.ok('stowage-verify /root/trail /root/key'), /the trail is whole: \d+ records/);
    assert.match(
      system.run('stowage-verify /root/trail /root/trail').stderr,
      /no public key, PEM, in \/root\/trail/,
    );
  });

  test('who may not read the token is told so, and what root runs by hand it runs as the user of the service', () => {
    const asked = system.run('setpriv --reuid=nobody --clear-groups stowage status');
    assert.match(asked.stderr, /client\.json: you may not read it: use sudo/);
    system.ok('install -m 600 /dev/null /etc/stowage/tls.key');
    const checked = system.run(
      'stowage-controller --tls-cert /etc/stowage/tls.key --tls-key /etc/stowage/tls.key check',
    );
    assert.match(checked.stderr, /EACCES/);
    assert.match(system.run('stowage-controller').stderr, /another controller works|in use|locked/i);
    assert.equal(system.ok('find /var/lib/stowage ! -user stowage'), '');
    assert.match(system.ok('STOWAGE_CONFIG= stowage-controller --data /tmp/none check'), /valid/);
    system.ok('rm /etc/stowage/tls.key');
  });

  test('no secret is in the journal', () => {
    const text = journal('stowage-controller');
    assert.match(text, /is running/);
    for (const file of ['admin-token', 'first-link', 'secrets-key']) {
      const secret = system.ok(`cat /var/lib/stowage/${file}`).trim();
      assert.ok(secret.length > 20 && !text.includes(secret), file);
    }
    assert.doesNotMatch(text, /stow_|welcome#/);
  });

  test('a host is enrolled by the lines that host token shows, and its pools are those of the host', async () => {
    assert.match(
      system.run('systemctl is-active stowage-agent').stdout,
      /inactive/,
      'until it knows which controller',
    );
    const lines = system.ok('stowage host token gamma');
    const token = /^token\s+(\S+)/m.exec(lines)?.[1];
    const [, shown = ''] = lines.split('With the Debian package stowage-agent, as root:');
    assert.match(shown, /systemctl enable stowage-agent && systemctl restart stowage-agent/);
    system.ok(
      shown
        .replace(/< *\/dev\/stdin|\/dev\/stdin/, '/root/token')
        .replace(/^/, `umask 077; echo ${token} > /root/token;`),
    );
    await until('stowage host list', /gamma .* reachable/);
    await until('test -e /var/lib/stowage-agent/token || echo used', /used/);
    system.ok('stowage pool create gamma/data --type dir --target /srv/volumes');
    system.ok('stowage vol create gamma/data/web --capacity 64M');
    const namespaces = system.ok(
      'readlink /proc/1/ns/mnt /proc/$(systemctl show -P MainPID stowage-agent)/ns/mnt',
    );
    const [ofAll, ofAgent] = namespaces.trim().split('\n');
    assert.equal(ofAgent, ofAll, 'what it mounts is mounted for all');
    const told = journal('stowage-agent');
    assert.match(told, /linked to/);
    assert.doesNotMatch(told, /enrol_/);
  });

  test('an upgrade keeps store, trail, volumes and configuration, and both programs run anew', async () => {
    system.ok('sed -i "s/^listen: .*/listen: 127.0.0.1:7071/" /etc/stowage/controller.yaml');
    system.ok('sed -i s/7070/7071/ /etc/default/stowage-agent');
    system.ok(
      String.raw`printf 'audit:\n  file: /var/log/stowage/audit.jsonl\n' >> /etc/stowage/controller.yaml`,
    );
    const before = system.ok('stowage vol show gamma/data/web --json | grep \'"id"\'');
    const [controller, agent] = ['controller', 'agent'].map((each) =>
      system.ok(`systemctl show -P MainPID stowage-${each}`),
    );
    assert.doesNotMatch(install(VERSION), /conffile|error/i);
    await until('stowage host list', /gamma .* reachable/);
    assert.match(system.ok('stowage status'), /:7071/);
    await until('tail -n 1 /var/log/stowage/audit.jsonl', /"seq":\d+/);
    assert.equal(system.ok('stowage vol show gamma/data/web --json | grep \'"id"\''), before);
    assert.match(system.ok('stowage audit verify'), /the trail is whole/);
    assert.notEqual(system.ok('systemctl show -P MainPID stowage-controller'), controller);
    assert.notEqual(system.ok('systemctl show -P MainPID stowage-agent'), agent);
    assert.match(system.ok('dpkg -s stowage-controller'), new RegExp(`^Version: ${VERSION}$`, 'm'));
  });

  test('a unit that was stopped by hand is not started by an upgrade', async () => {
    system.ok('systemctl stop stowage-controller stowage-agent');
    install(VERSION);
    assert.match(
      system.run('systemctl is-active stowage-controller stowage-agent').stdout,
      /^inactive\ninactive$/m,
    );
    system.ok('systemctl start stowage-controller stowage-agent');
    await until('stowage host list', /gamma .* reachable/);
  });

  test('removed and installed again, both run; a configuration that was deleted stays so', async () => {
    system.ok('dpkg -r stowage-controller stowage-agent 2>&1');
    install(VERSION);
    assert.equal(system.ok('systemctl is-active stowage-controller stowage-agent'), 'active\nactive\n');
    await until('stowage host list', /gamma .* reachable/);
    system.ok('mv /etc/stowage/controller.yaml /root/deleted.yaml');
    install(VERSION);
    system.ok('test ! -e /etc/stowage/controller.yaml && mv /root/deleted.yaml /etc/stowage/controller.yaml');
    system.ok('systemctl restart stowage-controller');
    await until('stowage host list', /gamma .* reachable/);
  });

  test('a wrong configuration is told with its line, and nothing is lost', async () => {
    system.ok(
      'cp -p /etc/stowage/controller.yaml /root/ && echo "lissten: 1" >> /etc/stowage/controller.yaml',
    );
    assert.match(system.run('stowage-controller check').stderr, /controller\.yaml:\d+:1: /);
    assert.notEqual(
      system.run('systemctl restart stowage-controller').status,
      0,
      'who starts it hears of it',
    );
    assert.match(journal('stowage-controller'), /controller\.yaml:\d+:1: lissten/);
    system.ok('cp -p /root/controller.yaml /etc/stowage/ && systemctl restart stowage-controller');
    await until('stowage vol list', /gamma\/data\/web/);
  });

  test('a backup is made while it works, and restored by root for the user of the unit', async () => {
    assert.match(system.ok('stowage-controller backup /root/saved'), /the trail is whole/);
    system.ok('systemctl stop stowage-controller && mv /var/lib/stowage /root/lost');
    assert.match(system.ok('stowage-controller restore /root/saved'), /the trail is whole/);
    system.ok('systemctl start stowage-controller');
    await until('stowage host list', /gamma .* reachable/);
    assert.equal(system.ok('stat -c %U /var/lib/stowage/stowage.db'), 'stowage\n');
  });

  test('what the agent has mounted goes on when it is stopped', async () => {
    // As the daemon of a file system in user space, which a mount starts.
    const script = '/usr/local/sbin/as-a-daemon';
    system.ok(
      `printf '#!/bin/sh\\nsleep 1000 >/dev/null 2>&1 &\\necho $! > /run/child\\n' > ${script} && chmod +x ${script}`,
    );
    const directory = '/etc/systemd/system/stowage-agent.service.d';
    system.ok(
      `mkdir -p ${directory} && printf '[Service]\\nExecStartPost=${script}\\n' > ${directory}/daemon.conf`,
    );
    system.ok('systemctl daemon-reload && systemctl restart stowage-agent');
    const pid = system.ok('cat /run/child').trim();
    system.ok(`grep -q stowage-agent /proc/${pid}/cgroup`);
    system.ok('systemctl stop stowage-agent');
    system.ok(`kill -0 ${pid}`);
    system.ok('systemctl start stowage-agent');
    await until('stowage host list', /gamma .* reachable/);
  });

  test('the units are valid, and leave their programs little to do harm with', () => {
    for (const [name, most] of Object.entries(EXPOSURE)) {
      system.ok(`systemd-analyze verify --man=no /usr/lib/systemd/system/stowage-${name}.service 2>&1`);
      system.ok(`systemd-analyze security --offline=true --threshold=${most} stowage-${name}.service 2>&1`);
    }
  });

  test('every command has a manual page that reads well', () => {
    const tree = join(room.path, 'tree');
    for (const deb of globSync(join(room.path, 'share', VERSION, '*.deb')))
      execFileSync('dpkg-deb', ['-x', deb, tree]);
    const pages = globSync('usr/share/man/*/*.gz', { cwd: tree });
    const names = pages.map((page) => basename(page, '.gz'));
    for (const command of globSync('usr/bin/*', { cwd: tree }))
      assert.ok(
        names.some((name) => name.startsWith(`${basename(command)}.`)),
        command,
      );
    assert.ok(names.includes('stowage-vol.1') && names.includes('stowage-audit.1'), names.join());
    for (const page of pages) {
      const roff = join(room.path, basename(page, '.gz'));
      writeFileSync(roff, execFileSync('zcat', [join(tree, page)]));
      const { status, stdout } = spawnSync('mandoc', ['-T', 'lint', '-W', 'warning', roff], {
        encoding: 'utf8',
      });
      assert.equal(status, 0, stdout);
    }
    const printed = execFileSync('mandoc', ['-T', 'utf8', join(room.path, 'stowage-vol.1')], {
      encoding: 'utf8',
    });
    // A letter that is bold is printed twice.
    const vol = printed.replace(new RegExp(`.${String.fromCharCode(8)}`, 'g'), '');
    assert.match(vol, /stowage vol migrate host\/pool\/vol host\/pool\[\/vol\]/);
    assert.match(vol, /--keep-source\s+copy instead of move/);
  });

  test('removed, both are stopped and their configuration stays; purged, what cannot be made again stays', () => {
    system.ok('dpkg -r stowage-controller stowage-agent 2>&1');
    assert.equal(
      system.run('systemctl is-active stowage-controller stowage-agent').stdout,
      'inactive\ninactive\n',
    );
    assert.equal(system.run('pgrep -f [/]usr/lib/stowage/').stdout, '');
    assert.match(system.ok('cat /etc/stowage/controller.yaml'), /7071/);
    const told = system.ok('dpkg -P stowage-controller stowage-agent stowage-cli stowage-node 2>&1');
    assert.match(told, /audit trail stay in \/var\/lib\/stowage/);
    system.ok('test ! -e /etc/stowage && test ! -e /etc/default/stowage-agent && test ! -e /usr/lib/stowage');
    system.ok('test -e /var/lib/stowage/stowage.db && test -e /srv/volumes/web');
    assert.equal(system.run('systemctl is-enabled stowage-controller').stdout.trim(), '');
  });
});
