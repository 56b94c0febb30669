import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { FleetVolume } from '../../shared/protocol/api.ts';
import { inTestHost, testInTestHost } from '../hosts/guest.ts';
import { TestController, until } from '../support/controller.ts';
import { scratch } from '../support/scratch.ts';

const MIB = 1 << 20;
const zfs = (tool: string, ...args: string[]): void =>
  void execFileSync(tool, args, { stdio: ['ignore', 'ignore', 'pipe'] });

function write(volume: string, bytes: Buffer): void {
  const file = openSync(`/dev/zvol/tank/${volume}`, 'r+');
  writeSync(file, bytes);
  fsyncSync(file);
  closeSync(file);
}

if (!inTestHost)
  testInTestHost(import.meta.url, 'copies that follow snapshots, on OpenZFS', { disksMiB: [512], zfs: true });
else
  test('a copy follows the snapshots of its source, by what has changed', async () => {
    zfs('zpool', 'create', 'tank', '/dev/vdb');
    // Programs start in seconds there, once their modules are compiled.
    process.env.NODE_COMPILE_CACHE = '/tmp/compiled';
    await using room = scratch();
    await using controller = await TestController.start(join(room.path, 'data'), []);
    for (const name of ['here', 'there']) {
      zfs('zfs', 'create', '-o', 'mountpoint=none', `tank/${name}`);
      await controller.cliOk('pool', 'define-as', 'local', name, 'zfs', '--source-name', `tank/${name}`);
      await controller.cliOk('pool', 'start', `local/${name}`);
    }
    const vol = (...args: string[]): Promise<string> => controller.cliOk('vol', ...args);
    const copy = ['copy', 'local/here/v', 'local/there', '--refresh', '--with-snapshots'];
    const shown = async (name: string): Promise<FleetVolume> =>
      JSON.parse(await vol('show', name, '-o', 'json'));
    const contentOf = (name: string): Buffer => readFileSync(`/dev/zvol/tank/${name}`).subarray(0, MIB);
    const [one, two, three] = [randomBytes(MIB), randomBytes(MIB), randomBytes(MIB)];
    await vol('create', 'local/here/v', '--capacity', '64M');
    await controller.cliRefused('snapshot-not-found', 'vol', ...copy);
    write('here/v', one);
    await vol('snapshot', 'create', 'local/here/v', 'monday');
    write('here/v', two);
    await vol(...copy);
    const made = await shown('local/there/v');
    // What it followed is the snapshot, and not what was written since.
    assert.ok(contentOf('there/v').equals(one));
    assert.equal(made.snapshotCount, 1);

    await vol('snapshot', 'create', 'local/here/v', 'tuesday');
    await vol('snapshot', 'create', 'local/here/v', 'noon');
    const wire = /([\d.]+) MiB on the wire/.exec(await vol(...copy));
    assert.ok(Number(wire?.[1]) < 4, `only what has changed travels: ${wire?.[0]}`);
    assert.ok(contentOf('there/v').equals(two));
    const updated = await shown('local/there/v');
    assert.deepEqual([updated.id, updated.snapshotCount], [made.id, 3]);
    assert.notEqual(updated.etag, made.etag);
    // Again: nothing to do, and nothing is done.
    await vol(...copy);
    assert.equal((await shown('local/there/v')).etag, updated.etag);
    // A snapshot of the same name that was taken later is another one.
    zfs('zfs', 'rename', 'tank/here/v@noon', 'tank/here/v@kept');
    zfs('zfs', 'snapshot', 'tank/here/v@noon');
    assert.match(await controller.cliRefused('volume-changed', 'vol', ...copy), /another one of that name/);
    zfs('zfs', 'destroy', 'tank/here/v@noon');
    zfs('zfs', 'rename', 'tank/here/v@kept', 'tank/here/v@noon');

    // What somebody wrote to the copy is not lost, and it is said.
    write('there/v', three);
    assert.match(await controller.cliRefused('volume-changed', 'vol', ...copy), /written to/);
    await vol('snapshot', 'create', 'local/here/v', 'wednesday');
    assert.match(await controller.cliRefused('volume-changed', 'vol', ...copy), /written to/);
    await until('the write is told', async () => contentOf('there/v').equals(three));
    await vol('snapshot', 'switch', 'local/there/v', 'noon', '--yes');
    await vol('snapshot', 'create', 'local/there/v', 'own');
    assert.match(await controller.cliRefused('volume-changed', 'vol', ...copy), /own, is none of/);
    await vol('snapshot', 'delete', 'local/there/v', 'own', '--yes');
    await vol(...copy);
    assert.equal((await shown('local/there/v')).snapshotCount, 4);
    assert.deepEqual(
      JSON.parse(await controller.cliOk('vol', 'snapshot', 'list', 'local/here/v', '-o', 'json')).map(
        ({ id }: { id: string }) => id,
      ),
      ['monday', 'tuesday', 'noon', 'wednesday'],
    );
  });
