import { lstat, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { StowageError } from '../../../shared/util/errors.ts';
import { entriesIfExists, replaceFile } from '../../host/files.ts';

/** How a target is logged in to. */
export interface Login {
  user: string;
  password: string;
}

/** Where open-iscsi keeps what it knows of targets. */
const PLACES = ['/etc/iscsi/nodes', '/var/lib/iscsi/nodes'];
const AUTH = /^\s*node\.session\.auth\.(authmethod|username|password)\s*=/;

/** The record of a target by one of its portals and one interface of this host. */
interface LoginRecord {
  path: string;
  /** Outside of the records: open-iscsi takes every file among them for one. */
  temporary: string;
}

async function recordsOf(iqn: string): Promise<LoginRecord[]> {
  const records: LoginRecord[] = [];
  for (const place of PLACES) {
    const temporary = join(dirname(place), `.stowage-record-${process.pid}`);
    for (const portal of await entriesIfExists(join(place, iqn))) {
      const path = join(place, iqn, portal);
      if ((await lstat(path)).isFile()) records.push({ path, temporary });
      else
        for (const name of await entriesIfExists(path)) records.push({ path: join(path, name), temporary });
    }
  }
  return records;
}

const write = ({ path, temporary }: LoginRecord, text: string): Promise<void> =>
  replaceFile(path, text, 0o600, temporary);

const linesOf = ({ user, password }: Login): string[] => [
  'node.session.auth.authmethod = CHAP',
  `node.session.auth.username = ${user}`,
  `node.session.auth.password = ${password}`,
];

/** Throws `invalid-argument` for what such a record cannot hold: it would be read as something else. */
function check({ user, password }: Login): void {
  for (const [what, value] of Object.entries({ name: user, password }))
    if (!/^[\x21\x22\x24-\x7e]{1,255}$/.test(value))
      throw new StowageError(
        'invalid-argument',
        `the ${what} for CHAP has a space, a # or no ASCII character in it, or is longer than 255: open-iscsi cannot keep it`,
      );
}

/**
 * Runs `work` while the records of a target say how it is logged in to; afterwards they are as before. In a file that only root reads: an
 * argument of iscsiadm would be seen by everybody on the host. What a kill leaves there goes with the next login.
 */
export async function withLogin<T>(iqn: string, login: Login, work: () => Promise<T>): Promise<T> {
  check(login);
  const ours = linesOf(login);
  const before = new Map<LoginRecord, string>();
  try {
    for (const record of await recordsOf(iqn)) {
      const lines = (await readFile(record.path, 'utf8')).split('\n');
      const others = lines.filter((line) => !AUTH.test(line));
      const isLeftover = ours.every((line) => lines.includes(line));
      before.set(record, (isLeftover ? others : lines).join('\n'));
      const end = others.findIndex((line) => /^#\s*END RECORD/.test(line));
      await write(record, others.toSpliced(end < 0 ? others.length : end, 0, ...ours).join('\n'));
    }
    return await work();
  } finally {
    for (const [record, text] of before) await write(record, text);
  }
}
