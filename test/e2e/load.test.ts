import assert from 'node:assert/strict';
import { closeSync, mkdirSync, openSync, readFileSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { TestController, until } from '../support/controller.ts';
import { MigrationRoom, makeImage } from '../support/migration.ts';
import { isRoot, scratch, sha256 } from '../support/scratch.ts';

/** Peak resident memory of a process so far, in MiB. */
function peakMiB(pid: number): number {
  return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
}

describe('twenty at once', { skip: isRoot ? false : 'networks of the tests’ own need root' }, () => {
  let room: MigrationRoom;
  before(async () => {
    room = await MigrationRoom.open();
  });
  after(() => room?.[Symbol.asyncDispose]());

  test('10 uploads and 10 migrations of mixed sizes finish, in bounded memory', async (context) => {
    const volumes = await Promise.all(Array.from({ length: 10 }, (_, index) => room.volume(8 + index * 12)));
    const files = await Promise.all(
      Array.from({ length: 10 }, async (_, index) => {
        const path = join(room.path, `upload-${index}`);
        return { path, name: `u${index}`, digest: await makeImage(path, 4 + index * 10) };
      }),
    );
    const uploads = files.map(({ path, name }) =>
      room.controller.cli('vol', 'upload', path, `${room.sink.name}/p/${name}`),
    );
    const jobs = await Promise.all(volumes.map(({ name }) => room.migrate(name)));
    for (const upload of await Promise.all(uploads)) assert.equal(upload.status, 0, upload.stderr);
    for (const job of jobs) {
      const { state, error } = await room.controller.ended(job);
      assert.equal(state, 'done', error?.message);
    }
    for (const { name, digest } of [...volumes, ...files])
      assert.equal(await sha256(join(room.sinkPool, name)), digest, name);
    const peaks = {
      controller: peakMiB(room.controller.pid),
      source: peakMiB(room.source.agentPid()!),
      sink: peakMiB(room.sink.agentPid()!),
    };
    context.diagnostic(`peak memory in MiB: ${JSON.stringify(peaks)}`);
    // 14 sinks of at most 4 chunks each, 10 sources likewise; a leak of what passes (1.1 GiB) would show.
    for (const [who, peak] of Object.entries(peaks)) assert.ok(peak < 900, `${who}: ${peak} MiB`);
  });
});

test('a directory with 50,000 files becomes a pool without a break of the link to its host', async () => {
  await using room = scratch();
  const pool = join(room.path, 'pool');
  mkdirSync(pool);
  for (let index = 0; index < 50_000; index++) {
    const name = `vm-${100 + Math.floor(index / 4)}-disk-${index % 4}.raw`;
    closeSync(openSync(join(pool, name), 'w'));
    truncateSync(join(pool, name), 1 << 20);
  }
  await using controller = await TestController.start(join(room.path, 'controller'), []);
  await until('the local host is there', async () =>
    (await controller.cliOk('host', 'list')).includes('reachable'),
  );
  const since = async (): Promise<unknown> =>
    (await controller.api<{ name: string; since: number }[]>('/hosts'))[0]!.since;
  const before = await since();
  await controller.cliOk('pool', 'create', 'local/many', '--type', 'dir', '--target', pool);
  await until('all are known', async () => (await controller.cliOk('status')).includes('volumes     50000'));
  assert.equal(await since(), before, 'the link was made anew');
});
