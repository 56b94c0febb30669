import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { VolumeDetails } from '../../shared/protocol/api.ts';
import { TestController } from '../support/controller.ts';
import { scratch } from '../support/scratch.ts';

const MIB = 1 << 20;

describe('copies that are brought up to date', () => {
  const room = scratch();
  const file = (name: string): string => join(room.path, name);
  let controller: TestController;
  const contents = new Map(['web', 'other'].map((name) => [name, randomBytes(4 * MIB)]));

  const refresh = (from: string, to: string): string[] => [
    'vol',
    'copy',
    `local/default/${from}`,
    `local/backup/${to}`,
    '--refresh',
  ];
  const holds = (volume: string, of: string): boolean =>
    readFileSync(file(`backup/${volume}`)).equals(contents.get(of)!);
  const shown = async (reference: string): Promise<VolumeDetails> =>
    JSON.parse(await controller.cliOk('--json', 'vol', 'show', reference));

  before(async () => {
    controller = await TestController.start(file('data'), []);
    mkdirSync(file('backup'));
    await controller.cliOk('pool', 'create', 'local/backup', '--type', 'dir', '--target', file('backup'));
    for (const [name, bytes] of contents) {
      writeFileSync(file(name), bytes);
      await controller.cliOk('vol', 'upload', file(name), `local/default/${name}`);
    }
  });
  after(async () => {
    await controller[Symbol.asyncDispose]();
    await room[Symbol.asyncDispose]();
  });

  test('a volume that is no copy of the source stays what it is, unless it is to be replaced', async () => {
    await controller.cliOk('vol', 'upload', file('other'), 'local/backup/precious');
    assert.match(
      await controller.cliRefused('volume-exists', ...refresh('web', 'precious')),
      /is not known as a copy of 'local\/default\/web'; --yes replaces it/,
    );
    const { status, stdout } = await controller.cli(...refresh('web', 'precious'), '--dry-run');
    assert.equal(status, 4);
    assert.match(stdout, /volume-exists/);
    assert.ok(holds('precious', 'other'));
    assert.equal(await controller.cliOk('job', 'list', '--state', 'failed', '-q'), '');
    await controller.cliOk(...refresh('web', 'precious'), '--yes');
    assert.ok(holds('precious', 'web'));
    await controller.cliOk(...refresh('web', 'precious'));
  });

  test('what it is a copy of is told, and known by the volumes, whatever they are called', async () => {
    assert.match(
      await controller.cliOk(...refresh('web', 'copy')),
      /local\/backup\/copy is up to date with local\/default\/web/,
    );
    const { copyOf } = await shown('local/backup/copy');
    const { id } = await shown('local/default/web');
    assert.deepEqual([copyOf?.source, copyOf?.sourceId], ['local/default/web', id]);
    assert.equal((await shown('local/default/web')).copyOf, undefined);
    await controller.cliOk('vol', 'rename', 'local/default/web', 'shop');
    await controller.cliOk('vol', 'rename', 'local/backup/copy', 'shop');
    await controller.cliOk(...refresh('shop', 'shop'));
    await controller.kill('SIGKILL');
    await controller.restart();
    await controller.cliOk(...refresh('shop', 'shop'));
    assert.ok((await shown('local/backup/shop')).copyOf!.copiedAt > copyOf!.copiedAt);
    // Another volume under the name of the copy is none.
    await controller.cliOk('vol', 'delete', 'local/backup/shop', '--yes');
    await controller.cliOk('vol', 'upload', file('other'), 'local/backup/shop');
    await controller.cliRefused('volume-exists', ...refresh('shop', 'shop'));
    assert.ok(holds('shop', 'other'));
  });

  test('a plain copy is a copy, and may be brought up to date', async () => {
    await controller.cliOk('vol', 'copy', 'local/default/other', 'local/backup/plain');
    await controller.cliOk(...refresh('other', 'plain'));
    await controller.cliRefused('volume-exists', ...refresh('shop', 'plain'));
  });
});
