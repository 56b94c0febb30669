import { type ChildProcess, fork } from 'node:child_process';

/** The number of the stream for bytes, in the process that was started. */
export const BYTES_FD = 4;

/** Calls to storage wait on threads: with Node's four only so many volumes would be looked at side by side. */
const THREADS = '16';

/** Starts a command of this very program as a process of its own, joined by a channel for messages and a stream for bytes. */
export function startOwnProcess(command: string): ChildProcess {
  return fork(process.argv[1]!, [command], {
    serialization: 'advanced',
    env: { ...process.env, UV_THREADPOOL_SIZE: THREADS },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc', 'pipe'],
  });
}
