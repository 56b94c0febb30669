#!/usr/bin/env node
import { toStowageError } from '../shared/util/errors.ts';
import { program } from './program.ts';

program.parseAsync().catch((error) => {
  const known = toStowageError(error);
  process.stderr.write(`stowage-agent: ${known.message} [${known.code}]\n`);
  // At once: what was begun, such as watching a pool, would keep a half-started agent alive.
  process.exit(1);
});
