import assert from 'node:assert/strict';
import { test } from 'node:test';
import { networkOf } from '../../controller/auth/network.ts';

for (const [source, network] of [
  ['10.1.2.3', '10.1.2.3'],
  ['::ffff:10.1.2.3', '::ffff:10.1.2.3'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2'],
  ['2001:db8:1:2::9', '2001:db8:1:2'],
  ['2001:0DB8:0001:0002::', '2001:db8:1:2'],
  ['2001:db8::1', '2001:db8:0:0'],
  ['::1', '0:0:0:0'],
  ['', ''],
] as const)
  test(`'${source}' is of the network '${network}'`, () => assert.equal(networkOf(source), network));
