import { type ChildProcess, fork } from 'node:child_process';

/** Starts a command of this very program as a process of its own, joined by a channel for messages that may hold buffers. */
export function startOwnProcess(command: string): ChildProcess {
  return fork(process.argv[1]!, [command], {
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
}
