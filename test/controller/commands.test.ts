import assert from 'node:assert/strict';
import { existsSync, readdirSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { Command } from 'commander';
import { EXAMPLES, pathOf } from '../../controller/cli/help.ts';
import { installCommand } from '../../controller/cli/install.ts';
import { table } from '../../controller/cli/listing.ts';
import { makeProgram } from '../../controller/cli/program.ts';
import { scratch } from '../support/scratch.ts';

function leaves(command: Command): Command[] {
  if (command.commands.length === 0) return command.name() === 'complete' ? [] : [command];
  return command.commands.flatMap(leaves);
}

test('a command that is replaced while it runs finds all its parts for an hour more', async () => {
  await using room = scratch();
  const libraries = () => readdirSync(room.path).filter((name) => name.startsWith('lib-'));
  const age = (name: string, hours: number) => {
    const then = Date.now() / 1000 - hours * 3600;
    utimesSync(join(room.path, name), then, then);
  };
  await installCommand(room.path);
  const [first] = libraries();
  // The controller has run for long when it starts anew.
  age(first!, 30);
  await installCommand(room.path);
  const second = libraries().find((name) => name !== first)!;
  assert.ok(existsSync(join(room.path, first!, 'stowage.mjs')));
  age(first!, 2);
  age(second, 1.5);
  await installCommand(room.path);
  assert.ok(libraries().includes(second), 'it was in use until now');
  assert.ok(!libraries().includes(first!));
});

describe('the commands', () => {
  const program = makeProgram();

  test('each says what it does, and how it is used', () => {
    const all = leaves(program);
    assert.ok(all.length > 50);
    for (const command of all) {
      assert.notEqual(command.description(), '', `${pathOf(command)} has no description`);
      assert.ok(EXAMPLES[pathOf(command)], `${pathOf(command)} has no example`);
    }
    const paths = new Set(all.map(pathOf));
    for (const path of Object.keys(EXAMPLES)) assert.ok(paths.has(path), `there is no command '${path}'`);
  });

  for (const [path, examples] of Object.entries(EXAMPLES))
    for (const example of examples)
      test(`example: ${example}`, async () => {
        assert.ok(example.startsWith(path));
        const fresh = makeProgram();
        const command = leaves(fresh).find((each) => pathOf(each) === path)!;
        let ran = false;
        command.action(() => {
          ran = true;
        });
        const [words = ''] = example.split(/ [|>] /);
        await fresh.parseAsync(words.split(' '), { from: 'user' });
        assert.ok(ran);
      });
});

describe('a table', () => {
  test('has its columns one below the other, whatever the characters are wide', () => {
    const text = table(
      ['NAME', 'STATE'],
      [
        ['web', 'running'],
        ['日本', 'stopped'],
        ['e\u0301te\u0301', 'x'],
      ],
    );
    assert.deepEqual(text.split('\n'), [
      'NAME  STATE',
      'web   running',
      '日本  stopped',
      'e\u0301te\u0301   x',
    ]);
  });

  test('lets no name command the terminal', () => {
    assert.equal(table(['A'], [['x\u001b[2Jy\nz']]), 'A\nx?[2Jy?z');
  });

  test('of 10,000 rows costs what its characters cost', () => {
    const rows = Array.from({ length: 10_000 }, (_, index) => [`host/pool/volume-${index}`, 'raw', index]);
    assert.equal(table(['VOLUME', 'FORMAT', 'SIZE'], rows).split('\n').length, 10_001);
  });
});
