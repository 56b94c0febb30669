import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { iscsiBackend } from '../../agent/backends/iscsi/index.ts';
import { mpathBackend } from '../../agent/backends/mpath/index.ts';
import { scsiBackend } from '../../agent/backends/scsi/index.ts';
import { OpenPool } from '../../agent/pools/open-pool.ts';
import { poolDefinitionSchema } from '../../shared/conf/pool.ts';
import { inTestHost, testInTestHost } from '../hosts/guest.ts';
import { until } from '../support/controller.ts';
import { scratch } from '../support/scratch.ts';
import { startTarget } from '../support/tgt.ts';
import { holdOpen } from './hands.ts';
import { runBackendSuite } from './suite.ts';

const run = (tool: string, ...args: string[]): string =>
  execFileSync(tool, args, { stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' });

const NOT_TOLD = {
  tests: ['what others make, change, rename and remove is seen, and ids stay with their volumes'],
  reason: 'its units are made elsewhere',
};

/** A host adapter whose two units are memory of the kernel. */
function scsiDebug(): string {
  run('modprobe', 'scsi_debug', 'dev_size_mb=16', 'num_tgts=1', 'max_luns=2');
  run('udevadm', 'settle');
  for (const host of readdirSync('/sys/class/scsi_host'))
    if (readFileSync(`/sys/class/scsi_host/${host}/proc_name`, 'utf8').trim() === 'scsi_debug') return host;
  throw new Error('there is no adapter');
}

if (!inTestHost) testInTestHost(import.meta.url, 'disks of others in a test host', { disksMiB: [] });
else {
  // With the rules of SCSI and multipath.
  run(
    'sh',
    '-c',
    'mv /usr/lib/udev/rules.aside/* /usr/lib/udev/rules.d/; udevadm control --reload; modprobe sd_mod',
  );
  let adapter: string | undefined;

  runBackendSuite({
    name: 'scsi with scsi_debug',
    backend: scsiBackend,
    skip: [
      NOT_TOLD,
      {
        tests: [
          'a volume that changes while it is read is not taken for one state',
          'storage that is away is no empty pool, and is the same when it is back',
        ],
        reason: 'tried with iscsi',
      },
    ],
    ground() {
      adapter ??= scsiDebug();
      return {
        definition: { source: { adapter: { type: 'scsi_host', name: adapter } } },
        units: ['unit:0:0:0', 'unit:0:0:1'],
        async [Symbol.asyncDispose]() {},
      };
    },
  });

  const room = scratch();
  /** The daemon of open-iscsi, for as long as the scope lasts. */
  async function startInitiator(): Promise<Disposable> {
    mkdirSync('/etc/iscsi', { recursive: true });
    writeFileSync('/etc/iscsi/initiatorname.iscsi', 'InitiatorName=iqn.2026-01.test:initiator\n');
    run('modprobe', 'iscsi_tcp');
    const daemon = spawn('iscsid', ['--foreground'], { stdio: 'ignore' });
    await setTimeout(500);
    return { [Symbol.dispose]: () => void daemon.kill('SIGKILL') };
  }

  test('a target that wants a login is logged in to by CHAP, and its password is nowhere on the host afterwards', async () => {
    const PASSWORD = 'opens-targets-"4711"!';
    await using directory = scratch();
    using _initiator = await startInitiator();
    await using target = await startTarget(directory.path, [16]);
    target.admin(...['--op', 'new', '--mode', 'account'], ...['--user', 'ann@fleet', '--password', PASSWORD]);
    target.admin('--op', 'bind', '--mode', 'account', '--tid', '1', '--user', 'ann@fleet');
    const records = (): string =>
      readdirSync('/etc/iscsi', { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => readFileSync(join(entry.parentPath, entry.name), 'utf8'))
        .join('');
    const open = async (password: string | undefined): Promise<OpenPool> => {
      const definition = poolDefinitionSchema.parse({
        ...{ name: 'p', uuid: randomUUID(), type: 'iscsi', target: { path: '/dev/disk/by-path' } },
        source: {
          hosts: [target.portal],
          devices: [{ path: target.iqn }],
          ...(password && { auth: { type: 'chap', username: 'ann@fleet', secret: { usage: 'san' } } }),
        },
      });
      iscsiBackend.check(definition);
      const state = join(directory.path, definition.uuid);
      mkdirSync(state);
      return new OpenPool(
        iscsiBackend.open(definition, {
          ...{ agentId: 'agent', ownsStorage: true },
          stateDirectory: async () => state,
          imageDirectories: () => [],
          secret: () => password ?? '',
          alone: <T>(work: () => Promise<T>) => work(),
        }),
      );
    };
    await assert.rejects((await open(undefined)).start(), { code: 'pool-inaccessible' });
    await assert.rejects((await open('another')).start(), { code: 'secret-refused' });
    for (const odd of ['with a space', 'with#', 'two\nlines', 'ü'])
      await assert.rejects((await open(odd)).start(), { code: 'secret-refused', message: /not ASCII/ });
    assert.doesNotMatch(records(), /ann@fleet|another/);
    const [portal = ''] = readdirSync(join('/etc/iscsi/nodes', target.iqn));
    const at = join('/etc/iscsi/nodes', target.iqn, portal);
    const record = statSync(at).isFile() ? at : join(at, 'default');
    // What somebody has set stays, whatever the pool logs in with.
    const own = `${readFileSync(record, 'utf8')}node.session.auth.username = bob\n`;
    writeFileSync(record, own);
    // A kill in the middle of a login.
    const module = new URL('../../agent/backends/iscsi/login-record.ts', import.meta.url).href;
    const code = `const { withLogin } = await import(${JSON.stringify(module)});
      const login = { user: 'ann@fleet', password: ${JSON.stringify(PASSWORD)} };
      await withLogin('${target.iqn}', login, () => new Promise((done) => setTimeout(done, 1e6)));`;
    const login = spawn(process.execPath, ['--input-type=module', '-e', code], { stdio: 'inherit' });
    await until('the record to have the login', () => readFileSync(record, 'utf8').includes(PASSWORD));
    await assert.rejects((await open(PASSWORD)).start(), { code: 'volume-in-use' });
    const ended = once(login, 'exit');
    login.kill('SIGKILL');
    await ended;
    assert.ok(readFileSync(record, 'utf8').includes(PASSWORD));
    for (let round = 0; round < 2; round++) {
      const pool = await open(PASSWORD);
      await pool.start();
      assert.equal((await pool.look('unit:0:0:1')).capacityBytes, 16 << 20);
      assert.ok(!records().includes(PASSWORD));
      assert.equal(statSync(record).mode & 0o777, 0o600);
      await pool.stop();
      assert.doesNotMatch(records(), /ann@fleet/);
      assert.equal(readFileSync(record, 'utf8'), own);
      assert.deepEqual(
        readdirSync('/etc/iscsi').filter((name) => /^\.stowage.*(?<!\.lock)$/.test(name)),
        [],
      );
    }
  });

  runBackendSuite({
    name: 'iscsi with open-iscsi and tgtd',
    backend: iscsiBackend,
    skip: [
      NOT_TOLD,
      {
        tests: ['a volume that changes while it is read is not taken for one state'],
        reason: 'a target does not tell what others write to its units',
      },
    ],
    async ground() {
      const initiator = await startInitiator();
      const target = await startTarget(room.path, [16, 32]);
      const session = (): string | undefined => readdirSync('/sys/class/iscsi_session')[0];
      return {
        definition: { source: { hosts: [target.portal], devices: [{ path: target.iqn }] } },
        // Unit 0 is the controller of the target.
        units: ['unit:0:0:1', 'unit:0:0:2'],
        away: () => void run('iscsiadm', '--mode', 'node', '--targetname', target.iqn, '--logout'),
        back() {},
        async [Symbol.asyncDispose]() {
          if (session()) run('iscsiadm', '--mode', 'node', '--targetname', target.iqn, '--logout');
          initiator[Symbol.dispose]();
          await target[Symbol.asyncDispose]();
        },
      };
    },
  });

  runBackendSuite({
    name: 'mpath with multipath-tools',
    backend: mpathBackend,
    skip: [
      NOT_TOLD,
      {
        tests: [
          'a volume that changes while it is read is not taken for one state',
          'storage that is away is no empty pool, and is the same when it is back',
        ],
        reason: 'multipath devices of a host are one pool, which is always there',
      },
    ],
    async ground() {
      adapter ??= scsiDebug();
      // One path is enough for a multipath device when it is asked to take each disk.
      const conf = [
        'defaults {',
        '  find_multipaths no',
        '}',
        'blacklist {',
        '  devnode "^(vd|loop|ram)"',
        '}',
        '',
      ];
      writeFileSync('/etc/multipath.conf', conf.join('\n'));
      run('modprobe', '-a', 'dm_multipath', 'dm_service_time');
      run('multipath');
      run('udevadm', 'settle');
      const names = readdirSync('/dev/mapper').filter((name) => name !== 'control');
      return {
        definition: {},
        units: names,
        hold: (unit) => holdOpen(`/dev/mapper/${unit}`),
        async [Symbol.asyncDispose]() {
          // udev looks at what was written to.
          run('udevadm', 'settle');
          run('multipath', '-F');
        },
      };
    },
  });
}
