import assert from 'node:assert/strict';
import { test } from 'node:test';
import { reachedAt } from '../../shared/protocol/enrolment-commands.ts';

test('behind a proxy that speaks TLS a host is told the scheme by which its administrator came', () => {
  for (const [told, own, url] of [
    ['http://storage.example', 'https://storage.example/', 'https://storage.example'],
    ['https://storage.example', 'http://127.0.0.1:7070', 'https://storage.example'],
    ['http://10.0.0.1:7070', 'http://10.0.0.1:7070', 'http://10.0.0.1:7070'],
  ] as const)
    assert.equal(reachedAt(told, own), url);
});
