import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { Image, JobDetails } from '../../shared/protocol/api.ts';
import { TestController, until } from '../support/controller.ts';
import { scratch } from '../support/scratch.ts';

const MIB = 1 << 20;

describe('linked clones in other pools than that of their base', () => {
  const room = scratch();
  let controller: TestController;

  before(async () => {
    controller = await TestController.start(join(room.path, 'data'), []);
    await until('the local host is there', async () =>
      (await controller.cliOk('host', 'list')).includes('reachable'),
    );
  });
  after(async () => {
    await controller?.[Symbol.asyncDispose]();
    await room[Symbol.asyncDispose]();
  });

  test('a base is copied once to each pool that clones of it are made in', async () => {
    for (const name of ['second', 'third']) {
      const target = join(room.path, name);
      await controller.cliOk('pool', 'create-as', 'local', name, 'dir', '--target', target, '--build');
    }
    const template = await controller.api<Image>('/hosts/local/pools/default/images', {
      ...{ vmid: 9100, sizeBytes: 4 * MIB },
    });
    const from = (name: string, pool = 'default'): string => `local/${pool}/${name}`;
    const write = async (name: string, bytes: Buffer): Promise<void> => {
      const file = join(room.path, 'bytes');
      writeFileSync(file, bytes);
      await controller.cliOk('vol', 'upload', file, from(name), '--format', 'raw', '--yes');
    };
    const contentOf = async (name: string, pool: string): Promise<Buffer> => {
      const file = join(room.path, 'content');
      await controller.cliOk('vol', 'download', from(name, pool), file, '--as', 'content', '--force');
      return readFileSync(file);
    };
    const [one, two] = [randomBytes(4 * MIB), randomBytes(4 * MIB)];
    await write(template.name, one);
    const refused = (code: string, ...args: string[]) =>
      controller.cliRefused(code, 'image', 'clone', ...args);
    await refused('invalid-argument', from(template.name), '750', '--to', 'local/second');
    await controller.cliOk('image', 'base', from(template.name));
    const base = from('base-9100-disk-0.raw');
    await refused('invalid-argument', base, '750', '--to', 'local');
    await refused('pool-not-found', base, '750', '--to', 'local/none');
    await refused('invalid-name', base, '750', '--to', 'local/second', '--base-name', 'template');
    await refused('invalid-argument', base, '750', '--to', 'local/second', '--snapshot', 's');
    await refused('invalid-argument', base, '750', '--base-name', 'base-1-disk-0.raw');

    const first = await controller.cliOk('image', 'clone', base, '750', '--to', 'local/second');
    assert.match(first, /^local\/second\/vm-750-disk-0.qcow2 stands on local\/second\/base-9100-disk-0.raw/);
    assert.ok((await contentOf('vm-750-disk-0.qcow2', 'second')).equals(one));
    await controller.cliRefused(
      'volume-has-clones',
      'vol',
      'delete',
      from('base-9100-disk-0.raw', 'second'),
      '--yes',
    );

    const copies = async (): Promise<number> =>
      (await controller.api<JobDetails[]>('/jobs?limit=1000')).filter(({ source }) => source === base).length;
    const before = await copies();
    // What is known by what it holds may have any name.
    await controller.cliOk('image', 'clone', base, '750', '--to', 'local/second');
    assert.equal(await copies(), before);
    const guests = Array.from({ length: 12 }, (_, index) => String(760 + index));
    await Promise.all(
      guests.map((vmid) => controller.cliOk('image', 'clone', base, vmid, '--to', 'local/third')),
    );
    assert.equal(await copies(), before + 1, 'one copy for all');
    assert.ok((await contentOf('vm-771-disk-0.qcow2', 'third')).equals(one));

    // Also under two names at the same time.
    await controller.cliOk(
      'pool',
      'create-as',
      'local',
      'fourth',
      'dir',
      '--target',
      join(room.path, 'fourth'),
      '--build',
    );
    const asked = ['base-9100-disk-0.raw', 'base-9100-disk-7.raw'].map((name) =>
      controller.api<{ job: JobDetails }>('/hosts/local/pools/default/images/base-9100-disk-0.raw/copies', {
        ...{ target: 'local/fourth', name },
      }),
    );
    const [{ job: left }, { job: right }] = (await Promise.all(asked)) as [
      { job: JobDetails },
      { job: JobDetails },
    ];
    assert.equal(left.id, right.id);
    assert.equal((await controller.ended(left.id)).state, 'done');

    // A base that was made anew holds something else.
    await controller.cliOk('vol', 'base', base, '--undo');
    await write('base-9100-disk-0.raw', two);
    await controller.cliOk('vol', 'base', base);
    await refused('volume-exists', base, '751', '--to', 'local/second');
    const renamed = ['--base-name', 'base-9100-disk-1.raw'];
    await controller.cliOk('image', 'clone', base, '751', '--to', 'local/second', ...renamed);
    assert.ok((await contentOf('vm-751-disk-0.qcow2', 'second')).equals(two));
    // Nor is a copy that was changed one any more.
    const copy = from('base-9100-disk-1.raw', 'second');
    await controller.cliOk('vol', 'delete', from('vm-751-disk-0.qcow2', 'second'), '--yes');
    await controller.cliOk('vol', 'base', copy, '--undo');
    await controller.cliOk('vol', 'base', copy);
    await refused('volume-exists', base, '752', '--to', 'local/second', ...renamed);
  });
});
