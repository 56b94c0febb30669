import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { JobDetails } from '../../shared/protocol/api.ts';
import { poolContents, TestController, until } from './controller.ts';
import { startHost, type TestHost } from './hosts.ts';
import { mountFileSystem, scratch, sha256 } from './scratch.ts';

const MIB = 1 << 20;

/** Bytes that a host has sent, as its network interface counts them. */
export function sentBytes(host: TestHost): number {
  const [tool = '', ...args] = host.command(['ip', '-s', '-j', 'link', 'show', 'eth0']);
  const [link] = JSON.parse(execFileSync(tool, args, { encoding: 'utf8' })) as {
    stats64: { tx: { bytes: number } };
  }[];
  return link!.stats64.tx.bytes;
}

export async function makeImage(path: string, sizeMiB: number, dataMiB = sizeMiB): Promise<string> {
  const file = await open(path, 'w');
  const spread = Math.floor(sizeMiB / dataMiB);
  for (let index = 0; index < dataMiB; index++)
    await file.write(randomBytes(MIB), 0, MIB, index * spread * MIB);
  await file.truncate(sizeMiB * MIB);
  await file.close();
  return sha256(path);
}

/** Two hosts, a controller, and volumes that go from the first to the second while something breaks. */
export class MigrationRoom implements AsyncDisposable {
  readonly #room = scratch();
  controller!: TestController;
  source!: TestHost;
  sink!: TestHost;
  sourcePool = '';
  sinkPool = '';
  /** A directory on a file system of 128 MiB, for a pool that runs full. */
  smallPool = '';
  #small: AsyncDisposable | undefined;
  #count = 0;

  static async open(): Promise<MigrationRoom> {
    const room = new MigrationRoom();
    try {
      await room.#prepare();
    } catch (error) {
      await room[Symbol.asyncDispose]();
      throw error;
    }
    return room;
  }

  async #prepare(): Promise<void> {
    const { path } = this.#room;
    this.controller = await TestController.start(join(path, 'controller'));
    // Before the hosts start: a mount made later is not seen in the mount namespaces they live in.
    const small = join(path, 'small');
    mkdirSync(small);
    this.#small = mountFileSystem('ext4', 128, small);
    this.smallPool = join(small, 'pool');
    this.source = await startHost(join(path, 'source'));
    this.sink = await startHost(join(path, 'sink'));
    await this.controller.addHost(this.source);
    await this.controller.addHost(this.sink);
    this.sourcePool = await this.controller.addPool(this.source);
    this.sinkPool = await this.controller.addPool(this.sink);
  }

  get path(): string {
    return this.#room.path;
  }

  /** A new volume on the source host; its name and digest. */
  async volume(sizeMiB: number, dataMiB = sizeMiB): Promise<{ name: string; digest: string }> {
    const name = `v${++this.#count}`;
    const digest = await makeImage(join(this.sourcePool, name), sizeMiB, dataMiB);
    await until('the volume is listed', async () =>
      (await this.controller.cliOk('vol', 'list', `${this.source.name}/p`)).includes(`/${name} `),
    );
    return { name, digest };
  }

  async migrate(
    name: string,
    options: { limit?: string; pool?: string; keep?: boolean } = {},
  ): Promise<number> {
    const json = {
      target: `${this.sink.name}/${options.pool ?? 'p'}`,
      keepSource: Boolean(options.keep),
      limitBytesPerSecond: options.limit ? Number(options.limit) * MIB : undefined,
    };
    const job = await this.controller.api<JobDetails>(
      `/hosts/${this.source.name}/pools/p/volumes/${name}/migrate`,
      json,
    );
    return job.id;
  }

  /** Waits until a share of the bytes has arrived. */
  async reached(job: number, share: number): Promise<void> {
    await until(`job ${job} has done ${share}`, async () => {
      const { doneBytes: done, totalBytes: total, state } = await this.controller.job(job);
      return state === 'done' || (total > 0 && done / total >= share);
    });
  }

  /** The one authoritative volume is on `side`, whole, and nowhere else is anything of it. */
  async verify(
    name: string,
    digest: string,
    side: 'source' | 'sink',
    sinkPool = this.sinkPool,
  ): Promise<void> {
    const [here, there] = side === 'source' ? [this.sourcePool, sinkPool] : [sinkPool, this.sourcePool];
    assert.equal(await sha256(join(here, name)), digest, 'the digest is right');
    await until(
      'nothing half-written is left',
      async () =>
        (await poolContents(there)).transfers.length === 0 &&
        (await poolContents(here)).transfers.length === 0,
      100_000,
    );
    assert.ok(!(await poolContents(there)).volumes.includes(name), 'there is exactly one');
    const listed = JSON.parse(await this.controller.cliOk('vol', 'list', '--json')) as {
      host: string;
      name: string;
    }[];
    const hosts = listed.filter((volume) => volume.name === name).map((volume) => volume.host);
    assert.deepEqual(
      hosts,
      [side === 'source' ? this.source.name : this.sink.name],
      'the inventory knows where it is',
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // What was not reached when it could not be opened is not there.
    await this.controller?.[Symbol.asyncDispose]();
    await this.source?.[Symbol.asyncDispose]();
    await this.sink?.[Symbol.asyncDispose]();
    await this.#small?.[Symbol.asyncDispose]();
    await this.#room[Symbol.asyncDispose]();
  }
}
