import { join } from 'node:path';
import { after } from 'node:test';
import { openStore, type Store } from '../../controller/store/store.ts';
import { newPostgresDatabase } from './postgres.ts';
import { scratch } from './scratch.ts';

/** A kind of store that the controller can have. */
export interface TestStore {
  name: 'SQLite' | 'PostgreSQL';
  /** A new one. Each `open` is one more process, as it were, that works with it. */
  create(): Promise<{ location: string; open(): Promise<Store> }>;
}

const opened = (location: string) => ({ location, open: () => openStore(location) });

/** What holds for one holds for all: tests of what is kept run on each. */
export const STORES: readonly TestStore[] = [
  {
    name: 'SQLite',
    async create() {
      const room = scratch();
      after(() => room[Symbol.asyncDispose]());
      return opened(join(room.path, 'stowage.db'));
    },
  },
  { name: 'PostgreSQL', create: async () => opened(await newPostgresDatabase()) },
];
