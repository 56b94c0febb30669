import { readdirSync, readFileSync, readlinkSync, watch } from 'node:fs';
import { clock } from '../../../shared/util/clock.ts';
import { libc } from '../../host/libc.ts';

/** IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE, IN_DELETE_SELF, IN_MOVE_SELF */
const MASK = 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800;
const OVERFLOW_MS = 1000;

/** Events that the kernel keeps for us; beyond them it drops some, which Node does not tell. */
function queueLength(): number {
  try {
    return Number(readFileSync('/proc/sys/fs/inotify/max_queued_events', 'utf8'));
  } catch {
    return 16_384;
  }
}

/**
 * Takes the events of writing out of a watch: a guest that writes is no news, and tells of it thousands of times a second.
 * Node watches with a mask of its own; watching the same directory again with its inotify descriptor replaces that mask.
 */
function narrow(directory: string): boolean {
  if (!libc) return false;
  let narrowed = false;
  for (const fd of readdirSync('/proc/self/fd'))
    try {
      if (readlinkSync(`/proc/self/fd/${fd}`) === 'anon_inode:inotify')
        narrowed = libc.inotifyAddWatch(Number(fd), directory, MASK) >= 0 || narrowed;
    } catch {
      // closed meanwhile
    }
  return narrowed;
}

/**
 * Calls back with the names of entries that were made, renamed, taken away or closed after writing, in a directory; with
 * undefined when events may have been lost. Only changes made on this host are seen.
 */
export function watchDirectory(
  directory: string,
  changed: (names: readonly string[] | undefined) => void,
): Disposable {
  const most = queueLength() / 2;
  let recent = 0;
  const watcher = watch(directory, (event, name) => {
    if (++recent === most) changed(undefined);
    // Without the native helper writes are told as changes: they wait for the next look at everything.
    if (event === 'change') return;
    if (name === null) changed(undefined);
    else if (!name.startsWith('.')) changed([name]);
  });
  watcher.on('error', () => {
    watcher.close();
    changed(undefined);
  });
  const calm = clock.every(
    OVERFLOW_MS,
    () => {
      recent = 0;
    },
    false,
  );
  narrow(directory);
  return {
    [Symbol.dispose]() {
      calm.stop();
      watcher.close();
    },
  };
}
