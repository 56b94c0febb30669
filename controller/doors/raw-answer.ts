import { STATUS_CODES } from 'node:http';
import { type StowageError, toProblem } from '../../shared/util/errors.ts';

/** An error as the last answer of a connection that no framework answers on; with another status where HTTP has one of its own for it. */
export function rawAnswer(error: StowageError, status = error.status): string {
  const problem = { ...toProblem(error), status };
  const body = JSON.stringify(problem);
  return [
    `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status]}`,
    'connection: close',
    'cache-control: no-store',
    'content-type: application/problem+json',
    `content-length: ${Buffer.byteLength(body)}`,
    `\r\n${body}`,
  ].join('\r\n');
}
