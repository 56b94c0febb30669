import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { HostDomains } from '../../agent/domains/host-domains.ts';
import { DomainWatch } from '../../agent/domains/watch.ts';
import type { Pools } from '../../agent/pools/pools.ts';
import { VolumeUse } from '../../agent/volume-use.ts';
import { type AgentEvent, agentEventSchema } from '../../shared/protocol/agent.ts';
import { until } from '../support/controller.ts';
import { scratch } from '../support/scratch.ts';
import { domainWith } from '../support/virsh.ts';

/** A host without pools whose hypervisors keep their files below `room`. */
async function watched(path: string) {
  const pools = { list: () => [], places: async () => [] } as unknown as Pools;
  const domains = await HostDomains.open(join(path, 'state'), pools, new VolumeUse(), path);
  const watch = new DomainWatch(domains);
  const events: AgentEvent[] = [];
  watch.on('event', (event) => events.push(event));
  await watch.look();
  return {
    watch,
    /** What was told since this was last asked, without its states. */
    told: () =>
      events
        .splice(0)
        .flatMap((event) =>
          event.type === 'domains'
            ? [
                ...event.domains.map(({ name, state }) => `${name} ${state}`),
                ...event.gone.map(({ name }) => `${name} gone`),
              ]
            : [],
        ),
    [Symbol.dispose]: () => watch.close(),
  };
}

const guest = (name: string, last: number): string =>
  domainWith('', { name, uuid: `c7a5fdbd-edaf-9455-926a-d65c16db180${last}` });

test('what a hypervisor changes is told of by itself, in a moment, also in a directory that is made later', async () => {
  await using room = scratch();
  using host = await watched(room.path);
  const directory = join(room.path, 'etc/libvirt/qemu');
  mkdirSync(directory, { recursive: true });
  // Nobody watches what is not there: the next look finds it.
  await host.watch.look();
  writeFileSync(join(directory, 'web.xml'), guest('web', 1));
  const seen: string[] = [];
  const hear = (text: string) =>
    until(text, async () => {
      seen.push(...host.told());
      return seen.includes(text);
    });
  await hear('web shut off');
  rmSync(join(directory, 'web.xml'));
  await hear('web gone');
  // The directory goes and comes back: it is watched again.
  rmSync(directory, { recursive: true });
  await host.watch.look();
  mkdirSync(directory);
  await host.watch.look();
  writeFileSync(join(directory, 'db.xml'), guest('db', 2));
  await hear('db shut off');
});

test('what cannot be read now counts as it was seen last, and what is gone then goes when it can be read again', async () => {
  await using room = scratch();
  const machines = join(room.path, 'etc/pve/qemu-server');
  mkdirSync(machines, { recursive: true });
  for (const id of [100, 101]) writeFileSync(join(machines, `${id}.conf`), 'name: web\n');
  using host = await watched(room.path);
  symlinkSync('lxc', join(room.path, 'etc/pve/lxc'));
  rmSync(join(machines, '101.conf'));
  await host.watch.look();
  assert.deepEqual(host.told(), ['? unknown']);
  rmSync(join(room.path, 'etc/pve/lxc'));
  await host.watch.look();
  assert.deepEqual(host.told().sort(), ['101 gone', '? gone']);
});

test('a configuration that says too much is told of as far as a line can hold', async () => {
  await using room = scratch();
  const directory = join(room.path, 'etc/libvirt/qemu');
  mkdirSync(directory, { recursive: true });
  mkdirSync(join(room.path, 'etc/vz/conf'), { recursive: true });
  const paths = Array.from({ length: 3000 }, (_, number) => `<path>/${number}${'x'.repeat(3000)}</path>`);
  const document = guest('fat', 1).replace('</devices>', `</devices><metadata>${paths.join('')}</metadata>`);
  writeFileSync(join(directory, 'fat.xml'), document);
  writeFileSync(join(directory, 'long.xml'), guest('n'.repeat(5000), 2));
  writeFileSync(join(directory, 'broken.xml'), `<domain>${paths.join('')}`);
  writeFileSync(join(room.path, 'etc/vz/conf/101.conf'), `NAME="a\0b"\nUUID="${'u'.repeat(100)}"\n`);
  using host = await watched(room.path);
  const lines = [...host.watch.snapshot(undefined)];
  const domains = lines.flatMap((line) => (line.type === 'domains' ? line.domains : []));
  assert.equal(domains.length, 4);
  for (const line of lines) {
    assert.ok(JSON.stringify(line).length < 2 << 20);
    agentEventSchema.parse(line);
  }
  assert.ok(domains.every(({ name }) => !name.includes('\0')));
});

test('a pipe among the configurations holds up nobody; what stands in metadata is used by nobody', async () => {
  await using room = scratch();
  const directory = join(room.path, 'etc/libvirt/qemu');
  mkdirSync(directory, { recursive: true });
  const document = guest('web', 1).replace(
    '</devices>',
    '</devices><metadata><path>/srv/x</path></metadata>',
  );
  writeFileSync(join(directory, 'web.xml'), document);
  using host = await watched(room.path);
  const [, line] = [...host.watch.snapshot(undefined)];
  assert.ok(line?.type === 'domains');
  assert.deepEqual(line.domains[0]?.images, []);
  execFileSync('mkfifo', [join(directory, 'pipe.xml')]);
  await host.watch.look();
  assert.deepEqual(host.told(), ['? unknown']);
});

test('a domain without a UUID is the same at each look; two containers of one name are two', async () => {
  await using room = scratch();
  const directory = join(room.path, 'etc/libvirt/qemu');
  mkdirSync(directory, { recursive: true });
  mkdirSync(join(room.path, 'etc/vz/conf'), { recursive: true });
  writeFileSync(join(directory, 'web.xml'), guest('web', 1).replace(/<uuid>.*<\/uuid>/, ''));
  for (const id of [101, 102]) writeFileSync(join(room.path, `etc/vz/conf/${id}.conf`), 'NAME="ct"\n');
  using host = await watched(room.path);
  await host.watch.look();
  assert.deepEqual(host.told(), []);
  const names = [...host.watch.snapshot(undefined)].flatMap((line) =>
    line.type === 'domains' ? line.domains.map(({ name }) => name) : [],
  );
  assert.deepEqual(names.sort(), ['101', '102', 'web']);
});

test('who knows the present state is told nothing; everybody else all of it', async () => {
  await using room = scratch();
  const directory = join(room.path, 'etc/libvirt/qemu');
  mkdirSync(directory, { recursive: true });
  for (const [index, name] of ['a', 'b'].entries())
    writeFileSync(join(directory, `${name}.xml`), guest(name, index));
  using host = await watched(room.path);
  const all = [...host.watch.snapshot(undefined)];
  assert.deepEqual(
    all.map(({ type }) => type),
    ['domains-begin', 'domains', 'domains-end'],
  );
  const end = all.at(-1)!;
  assert.ok(end.type === 'domains-end');
  assert.deepEqual([...host.watch.snapshot(end.now)], []);
  rmSync(join(directory, 'a.xml'));
  await host.watch.look();
  assert.equal([...host.watch.snapshot(end.now)].length, 3);
});
