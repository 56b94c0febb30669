import { readFileSync } from 'node:fs';
import { iscsiDirectBackend } from '../../agent/backends/iscsi-direct/index.ts';
import { startTarget } from '../support/tgt.ts';
import { runBackendSuite } from './suite.ts';

const unit = (number: number): string => `unit:0:0:${number}`;

runBackendSuite({
  name: 'iscsi-direct with tgtd',
  backend: iscsiDirectBackend,
  skip: [
    {
      tests: [
        'what others make, change, rename and remove is seen, and ids stay with their volumes',
        'a volume that changes while it is read is not taken for one state',
      ],
      reason: 'a target does not tell what others write to its units',
    },
  ],
  async ground(path) {
    const target = await startTarget(path, [16, 32]);
    return {
      definition: {
        source: {
          hosts: [target.portal],
          devices: [{ path: target.iqn }],
          initiatorIqn: 'iqn.2026-01.test:initiator',
        },
      },
      units: [unit(1), unit(2)],
      bytesOf: (name) => readFileSync(target.files[name === unit(1) ? 0 : 1]!),
      away: () => target.kill(),
      back: () => target.revive(),
      [Symbol.asyncDispose]: () => target[Symbol.asyncDispose](),
    };
  },
});
