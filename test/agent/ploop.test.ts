import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { copyFile, mkdir, open, readdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { checkVolume } from '../../agent/formats/ploop/check.ts';
import { cloneVolume } from '../../agent/formats/ploop/clone.ts';
import { createVolume, restoreDescriptor } from '../../agent/formats/ploop/create.ts';
import { ploop } from '../../agent/formats/ploop/driver.ts';
import { growVolume } from '../../agent/formats/ploop/grow.ts';
import { volumeInfo } from '../../agent/formats/ploop/info.ts';
import { createSnapshot, deleteSnapshot, switchSnapshot } from '../../agent/formats/ploop/snapshot.ts';
import { changeVolume } from '../../agent/formats/ploop/volume.ts';
import { wipeVolume } from '../../agent/formats/ploop/wipe.ts';
import { describeEntry } from '../../agent/volumes/files/describe.ts';
import { ploopTool, ploopToolOk } from '../support/ploop-tool.ts';
import { isRoot, scratch } from '../support/scratch.ts';

const MIB = 1 << 20;

describe('create is byte-identical to ploop init', () => {
  const cases = [
    { version: 1, clusterSectors: 2048, layout: 'expanded', tool: 'ploop1' },
    { version: 1, clusterSectors: 512, layout: 'preallocated', tool: 'preallocated' },
    { version: 2, clusterSectors: 128, layout: 'expanded', tool: 'ploop1' },
    { version: 2, clusterSectors: 2048, layout: 'preallocated', tool: 'preallocated' },
    { version: 2, clusterSectors: 4096, layout: 'expanded', tool: 'ploop1' },
    { version: 1, clusterSectors: 2048, layout: 'raw', tool: 'raw' },
  ] as const;
  for (const { version, clusterSectors, layout, tool } of cases) {
    for (const sizeKiB of [65_000, 300 * 1024, 9 * 1024 * 1024]) {
      if (layout !== 'expanded' && sizeKiB > 400_000) continue;
      const skip = version === 2 && !isRoot ? 'version 2 in the real tool needs root' : false;
      test(`v${version}, ${clusterSectors / 2} KiB clusters, ${layout}, ${sizeKiB} KiB`, {
        skip,
      }, async () => {
        await using room = scratch();
        const [ours, theirs] = [join(room.path, 'ours'), join(room.path, 'theirs')];
        await createVolume(ours, { capacityBytes: sizeKiB * 1024, version, layout, clusterSectors });
        await mkdir(theirs);
        ploopToolOk(
          'init',
          '-t',
          'none',
          '-f',
          tool,
          '-v',
          String(version),
          '-b',
          String(clusterSectors),
          '-s',
          `${sizeKiB}K`,
          join(theirs, 'root.hds'),
        );
        for (const file of ['root.hds', 'DiskDescriptor.xml']) {
          execFileSync('cmp', [join(ours, file), join(theirs, file)]);
        }
      });
    }
  }

  test('a version 1 volume of 2 TiB and more is refused, where the tool cuts it to 1 TiB', async () => {
    await using room = scratch();
    await assert.rejects(createVolume(join(room.path, 'v'), { capacityBytes: 3 * 2 ** 40, version: 1 }), {
      code: 'invalid-argument',
    });
    assert.deepEqual(await readdir(room.path), [], 'nothing is left');
  });

  test('an existing volume is refused and not touched', async () => {
    await using room = scratch();
    const directory = join(room.path, 'v');
    await createVolume(directory, { capacityBytes: 4 * MIB });
    const before = await readFile(join(directory, 'DiskDescriptor.xml'));
    await assert.rejects(createVolume(directory, { capacityBytes: 8 * MIB }), { code: 'volume-exists' });
    assert.ok((await readFile(join(directory, 'DiskDescriptor.xml'))).equals(before));
  });
});

/** A volume with known bytes in its first cluster. */
async function volumeWithData(directory: string, data: Buffer, capacityBytes = 8 * MIB): Promise<void> {
  await createVolume(directory, { capacityBytes });
  await writeCluster(directory, 0, data);
}

async function writeCluster(directory: string, index: number, data: Buffer): Promise<void> {
  await changeVolume(directory, async (volume) => {
    const top = volume.descriptor.images.find((image) => image.guid === volume.descriptor.topGuid)!.file;
    await using chain = await volume.openChain(undefined, (file) => file === top);
    await chain.top.begin();
    await chain.top.writeCluster(index, data);
    await chain.top.commit();
  });
}

async function firstCluster(directory: string): Promise<Buffer> {
  const content = await ploop.openContent(directory, () => Promise.reject(new Error('it stands on nothing')));
  const buffer = Buffer.alloc(MIB);
  await content.read(buffer, 0);
  await content.close();
  return buffer;
}

describe('what libvirt gets wrong (PLOOP facts, section 4)', () => {
  const data = randomBytes(MIB);

  test('capacity and allocation are right, not 0, and come from the top delta and all files', async () => {
    await using room = scratch();
    const directory = join(room.path, 'v');
    await volumeWithData(directory, data);
    await createSnapshot(directory);
    await growVolume(directory, 16 * MIB);
    const facts = await ploop.facts(directory);
    assert.equal(facts.capacityBytes, 16 * MIB, 'the base still says 8 MiB');
    assert.ok(
      (await volumeInfo(directory)).allocationBytes >= 3 * MIB,
      'header and data of the base, header of the top',
    );
    assert.equal(facts.snapshotCount, 1);
  });

  test('version 1 is recognised as a ploop volume', async () => {
    await using room = scratch();
    const directory = join(room.path, 'v');
    await createVolume(directory, { capacityBytes: 8 * MIB, version: 1 });
    assert.equal((await volumeInfo(directory)).version, 1);
    const found = await describeEntry(join(room.path, 'v'), 'v', undefined, {
      local: true,
      knownBy: 'inode',
    });
    assert.ok(found && found !== 'unchanged' && found.format === 'ploop');
  });

  test('shrinking is refused, also right after a look at the volume', async () => {
    await using room = scratch();
    const directory = join(room.path, 'v');
    await volumeWithData(directory, data);
    await volumeInfo(directory);
    await assert.rejects(growVolume(directory, 4 * MIB), { code: 'shrink-refused' });
    assert.ok((await firstCluster(directory)).equals(data));
  });

  test('junk in root.hds is refused by the check of an upload', async () => {
    for (const junk of [Buffer.alloc(MIB), randomBytes(MIB), Buffer.from('short')]) {
      await using room = scratch();
      await writeFile(join(room.path, 'root.hds'), junk);
      await assert.rejects(ploop.adopt(room.path), { code: 'invalid-image' });
    }
  });

  test('a volume with snapshots is not wiped, so no delta is orphaned', async () => {
    await using room = scratch();
    const directory = join(room.path, 'v');
    await volumeWithData(directory, data);
    await createSnapshot(directory);
    await assert.rejects(wipeVolume(directory, 'zero'), { code: 'volume-has-snapshots' });
    assert.ok((await firstCluster(directory)).equals(data));
  });

  test('a wipe right after a look leaves an empty volume of the same capacity', async () => {
    await using room = scratch();
    const directory = join(room.path, 'v');
    await volumeWithData(directory, data);
    await volumeInfo(directory);
    for (const algorithm of ['zero', 'random'] as const) {
      await wipeVolume(directory, algorithm);
      assert.equal((await volumeInfo(directory)).capacityBytes, 8 * MIB);
      assert.ok((await firstCluster(directory)).equals(Buffer.alloc(MIB)));
      assert.equal(ploopTool('check', '-f', join(directory, 'root.hds')).status, 0);
      assert.deepEqual((await readdir(directory)).sort(), [
        'DiskDescriptor.xml',
        'DiskDescriptor.xml.lck',
        'root.hds',
      ]);
    }
  });

  test('restoring the descriptor is refused when it would orphan deltas', async () => {
    await using room = scratch();
    const directory = join(room.path, 'v');
    await volumeWithData(directory, data);
    const fresh = await readFile(join(directory, 'DiskDescriptor.xml'));
    await rm(join(directory, 'DiskDescriptor.xml'));
    await restoreDescriptor(directory);
    assert.ok((await readFile(join(directory, 'DiskDescriptor.xml'))).equals(fresh), 'byte-identical');
    await createSnapshot(directory);
    const chained = await readFile(join(directory, 'DiskDescriptor.xml'));
    await assert.rejects(restoreDescriptor(directory), { code: 'volume-has-snapshots' });
    assert.ok((await readFile(join(directory, 'DiskDescriptor.xml'))).equals(chained));
  });

  test('a name that looks like a delta is no snapshot; only the descriptor tells', async () => {
    await using room = scratch();
    const directory = join(room.path, 'root.hds.x');
    await volumeWithData(directory, data);
    await writeFile(join(directory, 'root.hds.note'), 'not a delta');
    assert.equal((await ploop.facts(directory)).snapshotCount, 0);
    assert.deepEqual(await ploop.imageParts(directory).then((parts) => parts.map((part) => part.name)), [
      'DiskDescriptor.xml',
      'root.hds',
    ]);
  });

  test('a link to a ploop directory is not a ploop volume', async () => {
    await using room = scratch();
    await volumeWithData(join(room.path, 'v'), data);
    await symlink(join(room.path, 'v'), join(room.path, 'link'));
    assert.equal(
      await describeEntry(join(room.path, 'link'), 'link', undefined, { local: true, knownBy: 'inode' }),
      undefined,
    );
  });

  test('a descriptor that names a file outside, or has a DTD, or a circle, is refused', async () => {
    await using room = scratch();
    const directory = join(room.path, 'v');
    await volumeWithData(directory, data);
    await createSnapshot(directory);
    const path = join(directory, 'DiskDescriptor.xml');
    const good = await readFile(path, 'utf8');
    const [top = ''] = /\{5fbaabe3[^}]*\}/.exec(good) ?? [];
    const bad = [
      good.replace('<File>root.hds<', '<File>../../etc/passwd<'),
      good.replace('<File>root.hds<', '<File>/etc/passwd<'),
      good.replace('<?xml version="1.0"?>', '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'),
      good.replace('{00000000-0000-0000-0000-000000000000}', top),
      good.replace('</Parallels_disk_image>', ''),
      `<a>${'<b>'.repeat(3_000_000)}`,
      good.replace('<Disk_size>16384<', '<Disk_size>9223372036854775808<'),
    ];
    for (const text of bad) {
      await writeFile(path, text);
      await assert.rejects(volumeInfo(directory), { code: 'invalid-image' });
    }
  });

  test('a clone copies what the descriptor names, without holes, and nothing else', async () => {
    await using room = scratch();
    const [directory, copy] = [join(room.path, 'v'), join(room.path, 'copy')];
    await volumeWithData(directory, data);
    await createSnapshot(directory);
    await writeFile(join(directory, 'root.hds.mnt'), 'stranger');
    await cloneVolume(directory, copy);
    assert.ok((await firstCluster(copy)).equals(data));
    assert.equal((await readdir(copy)).length, 3, 'descriptor, base and one delta');
    for (const file of await readdir(copy))
      if (file.startsWith('root.hds')) assert.equal(ploopTool('check', '-f', join(copy, file)).status, 0);
  });

  test('an image marked as in use is left alone', async () => {
    await using room = scratch();
    const directory = join(room.path, 'v');
    await volumeWithData(directory, data);
    const file = await open(join(directory, 'root.hds'), 'r+');
    await file.write(Buffer.from('596e6f74', 'hex'), 0, 4, 44);
    await file.close();
    await assert.rejects(growVolume(directory, 16 * MIB), { code: 'volume-mounted' });
    await assert.rejects(ploop.imageParts(directory), { code: 'volume-mounted' });
    const findings = await checkVolume(directory, { repair: true });
    assert.deepEqual(
      findings.map(({ problem }) => problem),
      ['in-use'],
    );
    await growVolume(directory, 16 * MIB);
  });
});

describe('damage', () => {
  const data = randomBytes(MIB);
  const entryAt = (index: number): number => 64 + 4 * index;
  const damages: { name: string; problem: string; damage(path: string): Promise<void>; lost: boolean }[] = [
    {
      name: 'an entry beyond the end',
      problem: 'beyond-end',
      lost: true,
      async damage(path) {
        const file = await open(path, 'r+');
        await file.write(Buffer.from([200, 0, 0, 0]), 0, 4, entryAt(3));
        await file.close();
      },
    },
    {
      name: 'a cluster used twice',
      problem: 'duplicate',
      lost: false,
      async damage(path) {
        const file = await open(path, 'r+');
        await file.write(Buffer.from([1, 0, 0, 0]), 0, 4, entryAt(3));
        await file.close();
      },
    },
    {
      name: 'bytes after the last cluster',
      problem: 'trailing-bytes',
      lost: false,
      damage: async (path) => truncate(path, 4 * MIB),
    },
  ];
  for (const { name, problem, damage } of damages) {
    test(`${name} is found, and mended so that ploop and we find nothing more`, async () => {
      await using room = scratch();
      const directory = join(room.path, 'v');
      await volumeWithData(directory, data);
      await damage(join(directory, 'root.hds'));
      const found = await checkVolume(directory, { repair: false });
      assert.ok(
        found.some((finding) => finding.problem === problem),
        JSON.stringify(found),
      );
      await checkVolume(directory, { repair: true });
      assert.deepEqual(await checkVolume(directory, { repair: false }), []);
      assert.equal(ploopTool('check', '-fc', join(directory, 'root.hds')).status, 0);
      assert.ok((await firstCluster(directory)).equals(data), 'sound data stays');
    });
  }
});

describe('a kill in the middle of a change', () => {
  const data = randomBytes(MIB);

  /** Runs a change in a process that kills itself before its n-th write or sync; false when it ended before. */
  async function killDuring(directory: string, script: string, atWrite: number): Promise<boolean> {
    const code = `
      import { appendFileSync } from 'node:fs';
      import fsPromises from 'node:fs/promises';
      let writes = 0;
      const probe = await fsPromises.open('/dev/null', 'r+');
      const prototype = Object.getPrototypeOf(probe);
      await probe.close();
      for (const name of ['write', 'sync', 'datasync']) {
        const original = prototype[name];
        prototype[name] = function (...args) {
          if (++writes === ${atWrite}) process.kill(process.pid, 'SIGKILL');
          return original.apply(this, args);
        };
      }
      ${script}
    `;
    try {
      execFileSync(process.execPath, ['--input-type=module', '-e', code, directory], {
        cwd: process.cwd(),
        stdio: 'pipe',
      });
      return false;
    } catch (error) {
      assert.equal(
        (error as { signal?: string }).signal,
        'SIGKILL',
        String((error as { stderr?: Buffer }).stderr),
      );
      return true;
    }
  }

  for (const { name, script } of [
    {
      name: 'snapshot delete',
      script:
        "const { deleteSnapshot } = await import('./agent/formats/ploop/snapshot.ts'); const { volumeInfo } = await import('./agent/formats/ploop/info.ts'); const info = await volumeInfo(process.argv[1]); await deleteSnapshot(process.argv[1], info.snapshots.find((s) => !s.current).guid);",
    },
    {
      name: 'grow',
      script:
        "const { growVolume } = await import('./agent/formats/ploop/grow.ts'); await growVolume(process.argv[1], 64 * 1024 * 1024 * 1024);",
    },
    {
      name: 'snapshot create',
      script:
        "const { createSnapshot } = await import('./agent/formats/ploop/snapshot.ts'); await createSnapshot(process.argv[1]);",
    },
    {
      name: 'convert',
      script:
        "const { flatten } = await import('./agent/formats/ploop/snapshot.ts'); await flatten(process.argv[1]); const { convertVolume } = await import('./agent/formats/ploop/convert.ts'); await convertVolume(process.argv[1], { version: 1 });",
    },
  ]) {
    test(`${name}: at every write, the content stays and the next change works`, async () => {
      await using room = scratch();
      const original = join(room.path, 'original');
      await volumeWithData(original, data);
      await createSnapshot(original);
      const second = randomBytes(MIB);
      await writeCluster(original, 1, second);
      let kills = 0;
      for (let atWrite = 1, killed = true; killed && atWrite < 60; atWrite++) {
        const directory = join(room.path, `killed-${atWrite}`);
        await mkdir(directory);
        for (const file of await readdir(original))
          await copyFile(join(original, file), join(directory, file));
        killed = await killDuring(directory, script, atWrite);
        if (killed) kills++;
        // The next change settles what the kill left.
        const guid = await createSnapshot(directory);
        await deleteSnapshot(directory, guid);
        assert.ok((await firstCluster(directory)).equals(data), `content after a kill at write ${atWrite}`);
        assert.deepEqual(
          (await checkVolume(directory, { repair: false })).filter(({ fatal }) => fatal),
          [],
          `check after a kill at write ${atWrite}`,
        );
        assert.equal(
          (await readdir(directory)).some((file) => file.startsWith('.stowage')),
          false,
          'no intent is left',
        );
        await rm(directory, { recursive: true });
      }
      assert.ok(kills > 5, `${kills} kills`);
    });
  }
});

test('the tools’ own lock is respected', async () => {
  await using room = scratch();
  const directory = join(room.path, 'v');
  await createVolume(directory, { capacityBytes: 4 * MIB });
  const held = execFileSync(
    'flock',
    [
      '-n',
      join(directory, 'DiskDescriptor.xml.lck'),
      process.execPath,
      '-e',
      `
    import('${join(process.cwd(), 'agent/formats/ploop/grow.ts')}').then((grow) => grow.growVolume('${directory}', 8388608)).catch((error) => console.log(error.code));
  `,
    ],
    { encoding: 'utf8' },
  );
  assert.match(held, /volume-in-use/);
});

test('a merge that was stopped half way leaves a snapshot that can only be deleted', async () => {
  await using room = scratch();
  const directory = join(room.path, 'v');
  await volumeWithData(directory, randomBytes(MIB));
  const guid = await createSnapshot(directory);
  const current = randomBytes(MIB);
  await writeCluster(directory, 0, current);
  await assert.rejects(deleteSnapshot(directory, guid, AbortSignal.abort(new Error('stopped'))));
  await assert.rejects(switchSnapshot(directory, guid), { code: 'snapshot-not-found' });
  assert.ok((await firstCluster(directory)).equals(current), 'reading goes on at once');
  await deleteSnapshot(directory, guid);
  assert.ok((await firstCluster(directory)).equals(current));
});

test('switching back leaves other branches, and a snapshot with two children is only marked', async () => {
  await using room = scratch();
  const directory = join(room.path, 'v');
  await volumeWithData(directory, randomBytes(MIB));
  const first = await createSnapshot(directory);
  await createSnapshot(directory);
  await switchSnapshot(directory, first);
  assert.equal(await deleteSnapshot(directory, first), 'temporary');
  const { snapshots } = await volumeInfo(directory);
  assert.deepEqual(
    snapshots.filter(({ temporary }) => temporary).map(({ guid }) => guid),
    [first],
  );
});
