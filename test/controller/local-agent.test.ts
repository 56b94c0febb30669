import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { TestController, until } from '../support/controller.ts';
import { scratch } from '../support/scratch.ts';

/** The processes that serve a state directory. */
function agentsOf(directory: string): number[] {
  const text = execFileSync('ps', ['-eo', 'pid,args'], { encoding: 'utf8' });
  const lines = text.split('\n').filter((line) => line.includes(`serve --state ${directory}/agent`));
  return lines.map((line) => Number(line.trim().split(' ')[0]));
}

test('a local agent that outlived a killed controller is followed, replaced when it ends, and stopped', async () => {
  await using room = scratch();
  const directory = join(room.path, 'data');
  await using controller = await TestController.start(directory, []);
  const [first] = agentsOf(directory);
  await controller.kill('SIGKILL');
  assert.deepEqual(agentsOf(directory), [first]);
  await controller.restart();
  assert.deepEqual(agentsOf(directory), [first]);
  process.kill(first!, 'SIGKILL');
  await until('another one', () => {
    const [now] = agentsOf(directory);
    return now !== undefined && now !== first;
  });
  await until('its host is back', async () => /reachable/.test(await controller.cliOk('host', 'list')));
  assert.equal(agentsOf(directory).length, 1);
  await controller.kill('SIGKILL');
  await controller.restart();
  await controller.kill('SIGTERM');
  await until('none is left', () => agentsOf(directory).length === 0);
});
