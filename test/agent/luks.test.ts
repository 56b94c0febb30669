import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { ImageFormat } from '../../agent/formats/format.ts';
import { LUKS_HEADER_BYTES, parseLuksHeader } from '../../agent/formats/luks/header.ts';
import { luks } from '../../agent/formats/luks/index.ts';
import { qcow2 } from '../../agent/formats/qcow2/index.ts';
import { FileImage } from '../../agent/images/file-image.ts';
import { newVolumeSchema } from '../../shared/conf/volume.ts';
import { scratch } from '../support/scratch.ts';

const MIB = 1 << 20;
const nothingBelow = () => Promise.reject(new Error('it stands on nothing'));

/** Runs a tool that reads a passphrase. */
function tool(command: string, args: string[], input = ''): void {
  for (let tries = 1; ; tries++)
    try {
      execFileSync(command, args, { input, stdio: ['pipe', 'pipe', 'pipe'] });
      return;
    } catch (error) {
      // qemu-img measures how fast it is, and cannot where the kernel's clock of CPU time moves in large steps.
      if (tries === 100 || !/accurate CPU usage/.test(String(error))) throw error;
    }
}

async function contentOf(
  format: ImageFormat,
  path: string,
  passphrase: string | undefined,
  offset = 0,
  length?: number,
) {
  await using image = await FileImage.open(path, 'read');
  const source = await format.openContent(image, nothingBelow, passphrase);
  const bytes = Buffer.alloc(length ?? source.sizeBytes);
  await source.read(bytes, offset);
  await source.close();
  return bytes;
}

const wanted = (format: 'luks' | 'qcow2') => ({
  ...newVolumeSchema.parse({ name: 'v', capacityBytes: 8 * MIB, format, encryption: { format: 'luks' } }),
  passphrase: 'correct horse',
});

describe('LUKS', () => {
  test('what qemu-img encrypts is read, from any byte, and what is made here qemu-img reads', async () => {
    await using room = scratch();
    const at = (name: string): string => join(room.path, name);
    const bytes = Buffer.concat([randomBytes(3 * MIB + 100), Buffer.alloc(5 * MIB - 100)]);
    writeFileSync(at('raw'), bytes);
    writeFileSync(at('key'), 'correct horse', { mode: 0o600 });
    for (const format of [luks, qcow2]) {
      const name = format.name as 'luks' | 'qcow2';
      const key = name === 'qcow2' ? 'encrypt.key-secret=s' : 'key-secret=s';
      const path = at(name);
      const options =
        name === 'qcow2' ? `encrypt.format=luks,${key},encrypt.iter-time=50` : `${key},iter-time=50`;
      const secret = ['--object', `secret,id=s,file=${at('key')}`];
      tool('qemu-img', ['create', '-q', ...secret, '-f', name, '-o', options, path, '8M']);
      const target = `driver=${name},file.filename=${path},${key}`;
      tool('qemu-img', ['convert', '-n', ...secret, '--target-image-opts', '-f', 'raw', at('raw'), target]);
      assert.ok((await contentOf(format, path, 'correct horse')).equals(bytes), name);
      const part = await contentOf(format, path, 'correct horse', 2 * MIB + 77, 1000);
      assert.ok(part.equals(bytes.subarray(2 * MIB + 77, 2 * MIB + 1077)), `${name}, from any byte`);
      await assert.rejects(contentOf(format, path, 'wrong'), { code: 'secret-refused' });
      await assert.rejects(contentOf(format, path, undefined), { code: 'secret-missing' });

      const ours = at(`ours.${name}`);
      {
        await using image = await FileImage.open(ours, 'create');
        await using content = await FileImage.open(at('raw'), 'read');
        await format.fromContent(content, image, wanted(name));
        const facts = await format.facts(image);
        assert.equal(facts.capacityBytes, 8 * MIB);
        assert.deepEqual(facts.encryption, { format: 'luks' });
        await format.resize(image, 9 * MIB, false, { passphrase: 'correct horse' });
      }
      const source = `driver=${name},file.filename=${ours},${key}`;
      tool('qemu-img', ['convert', ...secret, '--image-opts', '-O', 'raw', source, at('back')]);
      assert.ok(
        readFileSync(at('back')).subarray(0, bytes.length).equals(bytes),
        `${name}, read by qemu-img`,
      );
      assert.equal(statSync(at('back')).size, 9 * MIB);
    }
  });

  test('what cryptsetup makes is opened by each of its keys, with other hashes and sizes of keys too', async () => {
    await using room = scratch();
    for (const [hash, bits] of [
      ['sha512', '512'],
      ['sha256', '256'],
    ] as const) {
      const path = join(room.path, hash);
      writeFileSync(path, '');
      truncateSync(path, 8 * MIB);
      const fast = ['--pbkdf-force-iterations', '1000', '--key-file=-'];
      const cipher = ['--cipher', 'aes-xts-plain64', '--hash', hash, '--key-size', bits];
      tool('cryptsetup', ['luksFormat', '-q', '--type', 'luks1', ...cipher, ...fast, path], 'first');
      const second = join(room.path, 'second');
      writeFileSync(second, 'another', { mode: 0o600 });
      tool('cryptsetup', ['luksAddKey', '-q', ...fast, path, second], 'first');
      tool('cryptsetup', ['luksRemoveKey', '-q', path, '--key-file=-'], 'first');
      tool(
        'cryptsetup',
        ['luksAddKey', '-q', '--pbkdf-force-iterations', '1000', '--key-file', second, path, '-'],
        'third',
      );
      const digests = new Set<string>();
      for (const passphrase of ['another', 'third'])
        digests.add(
          createHash('sha256')
            .update(await contentOf(luks, path, passphrase))
            .digest('hex'),
        );
      assert.equal(digests.size, 1, 'both open the same');
      await assert.rejects(contentOf(luks, path, 'first'), { code: 'secret-refused' });
    }
  });

  test('what nobody wrote is zeros by each way of reading, also where the image was grown', async () => {
    await using room = scratch();
    const path = join(room.path, 'v');
    await using image = await FileImage.open(path, 'create');
    await luks.create(image, wanted('luks'));
    await luks.resize(image, 12 * MIB, false);
    const { payloadOffset } = parseLuksHeader(readFileSync(path));
    // A sector of it in the middle of nothing.
    await image.write(randomBytes(512), payloadOffset + 5 * MIB);
    const source = await luks.openContent(image, nothingBelow, 'correct horse');
    const whole = Buffer.alloc(source.sizeBytes);
    await source.read(whole, 0);
    const byExtents = Buffer.alloc(source.sizeBytes);
    for await (const { offset, length } of source.extents(0, source.sizeBytes))
      await source.read(byExtents.subarray(offset, offset + length), offset);
    assert.ok(whole.equals(byExtents));
    assert.ok(whole.subarray(8 * MIB).every((byte) => byte === 0));
    const [before, within] = [5 * MIB - (1 << 16), 5 * MIB + 100];
    assert.ok(whole.subarray(0, before).every((byte) => byte === 0));
    const odd = Buffer.alloc(1000);
    await source.read(odd, within);
    assert.ok(odd.equals(whole.subarray(within, within + 1000)));
    assert.ok(odd.subarray(0, 412).some((byte) => byte !== 0));
  });

  test('a cipher that is not known here is told, and a lying header is no header', async () => {
    await using room = scratch();
    const path = join(room.path, 'old');
    writeFileSync(path, '');
    truncateSync(path, 4 * MIB);
    const fast = ['--pbkdf-force-iterations', '1000', '--key-file=-'];
    tool(
      'cryptsetup',
      ['luksFormat', '-q', '--type', 'luks1', '--cipher', 'aes-cbc-essiv:sha256', ...fast, path],
      'x',
    );
    await assert.rejects(contentOf(luks, path, 'x'), { code: 'not-supported' });
    const head = readFileSync(path).subarray(0, LUKS_HEADER_BYTES);
    parseLuksHeader(head);
    assert.throws(() => parseLuksHeader(head.subarray(0, 500)), { code: 'invalid-image' });
    for (const [at, value] of [
      [108, 0],
      [108, 1 << 20],
      [108, 48],
      [164, 0],
      [164, 0xffff_ffff],
      [212, 0xffff_ffff],
      [252, 0],
      [252, 0xffff_ffff],
    ] as const) {
      const lying = Buffer.from(head);
      lying.writeUInt32BE(value, at);
      assert.throws(() => parseLuksHeader(lying), { code: 'invalid-image' }, `${value} at ${at}`);
    }
    const long = Buffer.from(readFileSync(path));
    long.writeUInt32BE(0xffff_ffff, 104);
    writeFileSync(path, long);
    await using image = await FileImage.open(path, 'write');
    await assert.rejects(luks.facts(image), { code: 'invalid-image' });
    await assert.rejects(luks.adopt(image), { code: 'invalid-image' });
  });
});
