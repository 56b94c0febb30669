import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { execute } from '../support/controller.ts';
import { scratch } from '../support/scratch.ts';

const POOL =
  "<pool type='disk'><name>d</name><source><device path='/dev/sda'/></source><target><path>/dev</path></target></pool>";
const PARTITION =
  "<volume type='block'><name>sda1</name><target><format type='linux-swap'/></target></volume>";

describe('stowage xml, without a controller', () => {
  const room = scratch();
  after(() => room[Symbol.asyncDispose]());
  const file = (name: string, text: string): string => {
    writeFileSync(join(room.path, name), text);
    return join(room.path, name);
  };
  const stowage = (...args: string[]) =>
    execute(process.execPath, ['controller/cli/stowage.ts', 'xml', ...args], {
      PATH: process.env.PATH,
      HOME: room.path,
    });

  test('format writes the canonical document, which formats as itself', async () => {
    const first = await stowage('format', 'pool', file('pool', POOL));
    assert.equal(first.status, 0, first.stderr);
    assert.match(first.stdout, /^<pool type='disk'>\n {2}<name>d<\/name>\n {2}<uuid>/);
    const second = await stowage('format', 'pool', file('again', first.stdout));
    assert.equal(second.stdout, first.stdout);
  });

  test("what is wrong is said in libvirt's words, with status 1 and nothing on standard output", async () => {
    const { status, stdout, stderr } = await stowage('format', 'pool', file('bad', "<pool type='dir'/>"));
    assert.deepEqual(
      { status, stdout, stderr },
      { status: 1, stdout: '', stderr: 'error: XML error: missing pool source name element\n' },
    );
  });

  test('a volume is what its pool makes of it', async () => {
    const [pool, volume] = [file('pool', POOL), file('volume', PARTITION)];
    const without = await stowage('validate', 'volume', volume, '--pool', pool);
    assert.equal(without.stderr, 'error: XML error: missing capacity element\n');
    const inDirectory = await stowage('validate', 'volume', volume, '--capacity', 'optional');
    assert.match(inDirectory.stderr, /unknown volume format type linux-swap/);
    const right = await stowage('format', 'volume', volume, '--pool', pool, '--capacity', 'optional');
    assert.equal(right.status, 0, right.stderr);
    assert.match(right.stdout, /<format type='linux-swap'\/>/);
  });

  test('a wrong command has status 2', async () => {
    assert.equal((await stowage('format', 'pool', join(room.path, 'nowhere'))).status, 2);
    assert.equal((await stowage('format', 'network', file('pool', POOL))).status, 2);
    assert.equal((await stowage('format', 'pool')).status, 2);
  });
});
