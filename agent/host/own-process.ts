import { type ChildProcess, fork } from 'node:child_process';

/** The number of the stream for bytes, in the process that was started. */
export const BYTES_FD = 4;

/** Starts a command of this very program as a process of its own, joined by a channel for messages and a stream for bytes. */
export function startOwnProcess(command: string): ChildProcess {
  return fork(process.argv[1]!, [command], {
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'inherit', 'ipc', 'pipe'],
  });
}
