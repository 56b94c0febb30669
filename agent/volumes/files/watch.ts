import { readdirSync, readFileSync, readlinkSync, statSync, watch } from 'node:fs';
import { join } from 'node:path';
import { clock, type Timer } from '../../../shared/util/clock.ts';
import { Turns } from '../../../shared/util/turns.ts';
import { libc } from '../../host/libc.ts';
import { FLAT, type Layout } from './layout.ts';

/** IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE, IN_DELETE_SELF, IN_MOVE_SELF */
const MASK = 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800;
const OVERFLOW_MS = 1000;
/** A directory that was just made gets others in it at once. */
const SETTLE_MS = 100;

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

/** Numbers of inodes are used again; together with the time of birth they are not. */
function inodeOf(path: string): string | undefined {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stat && `${stat.ino}:${stat.birthtimeNs}`;
}

/** Calls back as {@link watchDirectory} does, of all the directories that the volumes of a pool lie in, also those that come later. */
export function watchLayout(
  pool: string,
  layout: Layout,
  changed: (names: readonly string[] | undefined) => void,
): Disposable {
  if (layout === FLAT) return watchDirectory(pool, changed);
  const watched = new Map<string, { inode: string; watcher: Disposable }>();
  let isEnded = false;
  let isFirst = true;
  const look = async (): Promise<void> => {
    const there = await layout.directories(pool);
    const turns = new Turns();
    // One that went and came back is another directory, which nobody watches yet.
    for (const [place, { inode, watcher }] of watched) {
      await turns.next();
      if (inodeOf(join(pool, place)) === inode) continue;
      watcher[Symbol.dispose]();
      watched.delete(place);
    }
    for (const place of there) {
      await turns.next();
      if (isEnded) return;
      if (watched.has(place)) continue;
      const tell = (entries: readonly string[]): void => {
        const names = entries.flatMap((entry) => layout.nameAt(join(place, entry)) ?? []);
        // A directory that volumes lie in may have come, or gone.
        if (names.length < entries.length) lookSoon();
        if (names.length > 0) changed(names);
      };
      const inode = inodeOf(join(pool, place));
      if (inode === undefined) continue;
      const watcher = watchDirectory(join(pool, place), (entries) => {
        if (entries) return tell(entries);
        lookSoon();
        changed(undefined);
      });
      watched.set(place, { inode, watcher });
      // What came into a new directory before the watch did.
      if (!isFirst) tell(readdirSync(join(pool, place)));
    }
    isFirst = false;
  };
  let soon: Timer | undefined;
  // One after the other. Where one fails, such as for want of watches, only a look at everything helps.
  let last = Promise.resolve();
  const lookAgain = (): void => {
    last = last.then(look).catch(() => changed(undefined));
  };
  const lookSoon = (): void => {
    soon ??= clock.after(
      SETTLE_MS,
      () => {
        soon = undefined;
        lookAgain();
      },
      false,
    );
  };
  lookAgain();
  return {
    [Symbol.dispose]() {
      isEnded = true;
      soon?.stop();
      for (const { watcher } of watched.values()) watcher[Symbol.dispose]();
    },
  };
}
