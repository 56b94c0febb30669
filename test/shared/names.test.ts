import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nameSchema, principalNameSchema } from '../../shared/util/names.ts';

test('no person and no token is called as the trail calls the controller, or looks like another one', () => {
  for (const [name, isGood] of [
    ['ana', true],
    ['Zoë Müller', true],
    ['controllers', true],
    ['controller', false],
    ['Nobody', false],
    ['adm\u200bin', false],
    ['admin\u200f', false],
    ['ad\u00admin', false],
    ['a/b', false],
    ['', false],
  ] as const)
    assert.equal(principalNameSchema.safeParse(name).success, isGood, JSON.stringify(name));
  // What is on disks is called as it is.
  for (const name of ['controller', 'a\u200db']) assert.ok(nameSchema.safeParse(name).success);
});
