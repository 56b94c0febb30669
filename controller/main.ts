#!/usr/bin/env node
import { toStowageError } from '../shared/util/errors.ts';
import { program } from './program.ts';

/** What to do where the place to listen at is another's. */
const hintOf = ({ code }: NodeJS.ErrnoException): string =>
  code === 'EADDRINUSE' ? '; another address: --listen HOST:PORT, or STOWAGE_LISTEN' : '';

program.parseAsync().catch((error) => {
  process.stderr.write(`stowage-controller: ${toStowageError(error).message}${hintOf(error)}\n`);
  process.exit(1);
});
