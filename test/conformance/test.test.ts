import { testBackend } from '../../agent/backends/test/index.ts';
import { runBackendSuite } from './suite.ts';

runBackendSuite({
  name: 'test',
  backend: testBackend,
  inMemory: true,
  ground: () => ({ definition: {}, async [Symbol.asyncDispose]() {} }),
  skip: [
    { tests: ['a volume of format raw has the mode that was asked for'], reason: 'memory has no mode' },
    {
      tests: [
        'what others make, change, rename and remove is seen, and ids stay with their volumes',
        'a volume that changes while it is read is not taken for one state',
        'storage that is in use is not let go of, and the pool goes on',
        'storage that is away is no empty pool, and is the same when it is back',
      ],
      reason: 'nobody but its agent reaches the memory that it lies in',
    },
  ],
});
