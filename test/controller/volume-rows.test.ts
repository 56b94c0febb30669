import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { VolumeRows } from '../../controller/store/repositories/volume-rows.ts';
import type { Volume } from '../../shared/conf/volume.ts';
import { VOLUME_ORDERS, type VolumeOrder } from '../../shared/protocol/lists.ts';
import { STORES } from '../support/stores.ts';

const HOSTS = ['a', 'b', 'c'];
const PER_HOST = 300;

const volume = (host: number, index: number): Volume =>
  ({
    id: `00000000-0000-4000-8000-${String(host * 1000 + index).padStart(12, '0')}`,
    name: `v${String((index * 7) % PER_HOST).padStart(3, '0')}${index % 3 === 0 ? '-x' : ''}`,
    ...{ type: 'file', path: `/p/${index}`, snapshotCount: 0, etag: 'e' },
    format: index % 4 === 0 ? 'qcow2' : 'raw',
    capacityBytes: (index * 31) % 17,
    allocationBytes: (index * 13) % 11,
    // Some storage tells no times.
    timestamps: index % 5 === 0 ? undefined : { atime: '1', mtime: String((index * 3) % 29), ctime: '1' },
  }) as Volume;

const keys: Record<VolumeOrder, (one: Volume & { host: string }) => (string | number)[]> = {
  place: ({ host, name }) => [host, name],
  name: ({ host, name }) => [name, host],
  capacityBytes: ({ host, name, capacityBytes }) => [capacityBytes, host, name],
  allocationBytes: ({ host, name, allocationBytes }) => [allocationBytes, host, name],
  modifiedAt: ({ host, name, timestamps }) => [Number(timestamps?.mtime ?? 0) * 1000, host, name],
};

function compare(one: (string | number)[], other: (string | number)[]): number {
  for (const [index, key] of one.entries()) if (key !== other[index]) return key < other[index]! ? -1 : 1;
  return 0;
}

for (const kind of STORES)
  describe(`rows of volumes on ${kind.name}`, () => {
    test('are in every order, from every position and under every condition what a sorted list has there', async () => {
      const store = await (await kind.create()).open();
      const all: (Volume & { host: string })[] = [];
      for (const [number, host] of HOSTS.entries()) {
        const volumes = Array.from({ length: PER_HOST }, (_, index) => volume(number, index));
        all.push(...volumes.map((each) => ({ ...each, host })));
        await store.transaction(async (transaction) => {
          await transaction.hosts.insert({
            ...{ id: `id-${host}`, name: host, address: { kind: 'websocket' } },
            ...{ state: 'reachable', since: 1, createdAt: 1, labels: [] },
          });
          const pool = {
            name: 'p',
            type: 'dir',
            uuid: `00000000-0000-4000-8000-00000000000${number}`,
            state: 'running',
            autostart: true,
          };
          await transaction.pools.put(`id-${host}`, {
            ...pool,
            ...{ source: { hosts: [], devices: [] }, target: { path: '/p' } },
            ...{ capacityBytes: 1, allocationBytes: 1, availableBytes: 1 },
          } as never);
          await transaction.volumes.put({ id: `id-${host}`, name: host }, 'p', volumes);
        });
      }
      // Few rows are passed at once, so that every way through the parts is taken; and all at once.
      for (const passed of [7, 100, 50_000]) {
        const rows = new VolumeRows(store.db, passed);
        for (const [what, filter, meets] of [
          ['all', {}, () => true],
          ['a host', { host: 'b' }, ({ host }) => host === 'b'],
          ['a format', { format: 'qcow2' }, ({ format }) => format === 'qcow2'],
          ['a part of the name', { search: '-x' }, ({ name }) => name.includes('-x')],
          ['scopes', { scopes: ['a', 'c/p'] }, ({ host }) => host !== 'b'],
          [
            'an age',
            { modifiedBefore: 9000 },
            ({ timestamps }) =>
              timestamps !== undefined && Number(timestamps.mtime) > 0 && Number(timestamps.mtime) < 9,
          ],
        ] as [string, object, (one: Volume & { host: string }) => boolean][]) {
          const met = all.filter(meets);
          assert.equal(await rows.count(filter), met.length, `${what}, ${passed}`);
          for (const order of VOLUME_ORDERS)
            for (const descending of [false, true]) {
              const sorted = met.toSorted((one, other) => compare(keys[order](one), keys[order](other)));
              if (descending) sorted.reverse();
              for (const offset of [
                0,
                1,
                99,
                Math.floor(met.length / 2) + 1,
                met.length - 3,
                met.length + 5,
              ]) {
                const got = await rows.list({ ...filter, order, descending, offset, limit: 20 });
                assert.deepEqual(
                  got.map(({ host, name }) => `${host}/${name}`),
                  sorted.slice(offset, offset + 20).map(({ host, name }) => `${host}/${name}`),
                  `${what}, by ${order}, ${descending ? 'down' : 'up'}, from ${offset}, ${passed} at once`,
                );
              }
            }
        }
      }
      await store.close();
    });
  });
