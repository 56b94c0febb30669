import { copyFileSync, existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { openStore } from '../../controller/store/store.ts';
import { accept, TestBrowser } from '../support/browser.ts';
import { TestController } from '../support/controller.ts';
import { scratch } from '../support/scratch.ts';

/**
 * How long the page takes with a million volumes behind it: until a page is there, until what a key or a click asks for is on the screen,
 * until a change of the fleet is. STOWAGE_BENCH_STORE names a store that an earlier run has made, or where this one leaves it.
 */
const HOSTS = Number(process.env.STOWAGE_BENCH_HOSTS ?? 100);
const PER_HOST = 10_000;
const ROUNDS = 7;

async function fill(path: string): Promise<void> {
  const store = await openStore(path);
  for (let number = 0; number < HOSTS; number++) {
    const host = { id: `id${number}`, name: `host${String(number).padStart(3, '0')}` };
    await store.transaction(async ({ hosts, pools }) => {
      await hosts.insert({
        ...{ ...host, address: { kind: 'websocket' } },
        ...{ state: 'unreachable', since: 1, createdAt: 1, labels: [] },
      });
      await pools.put(host.id, {
        ...{ name: 'data', type: 'dir', uuid: '00000000-0000-4000-8000-000000000001', state: 'running' },
        ...{ source: { hosts: [], devices: [] }, target: { path: '/x' }, autostart: true },
        ...{ capacityBytes: 2 ** 44, allocationBytes: 2 ** 43, availableBytes: 2 ** 43 },
      });
    });
    for (let from = 0; from < PER_HOST; from += 500) {
      const volumes = Array.from({ length: 500 }, (_, index) => {
        const n = number * PER_HOST + from + index;
        return {
          ...({
            name: `vm-${n}-disk-${n % 13}`,
            id: crypto.randomUUID(),
            type: 'file',
            format: 'qcow2',
          } as const),
          ...{
            path: `/x/${n}`,
            capacityBytes: ((n * 7919) % 1000) * 1e9,
            allocationBytes: ((n * 104_729) % 1000) * 1e8,
          },
          ...{ snapshotCount: 0, etag: String(n) },
          timestamps: { mtime: String(1_600_000_000 + ((n * 31_337) % 1e6)), atime: '1', ctime: '1' },
        };
      });
      await store.transaction(({ volumes: table }) => table.put(host, 'data', volumes));
    }
  }
  await store.close();
}

await using room = scratch();
const kept = process.env.STOWAGE_BENCH_STORE ?? join(room.path, 'filled.db');
if (!existsSync(kept)) await fill(kept);
const data = join(room.path, 'data');
mkdirSync(data);
copyFileSync(kept, join(data, 'stowage.db'));
await using controller = await TestController.start(data, []);
await using browser = await TestBrowser.start();
// What is waited for is asked by texts, which the policy of the page forbids.
const page = await browser.open({ bypassCSP: true });
await accept(page, controller.link, 'ada');

const times = new Map<string, number[]>();
const note = (what: string, ms: number): void => void times.set(what, [...(times.get(what) ?? []), ms]);

/** Settles at the frame in which it is so, with the time of the page: asked in the page, as a look from outside takes its own time. */
async function seen(condition: string): Promise<number> {
  const handle = await page.waitForFunction(`(${condition}) && performance.now()`, undefined, {
    polling: 'raf',
  });
  return Number(await handle.jsonValue());
}
/** From the key or the click, as the browser has stamped it, to the frame in which what it asks for is there. */
async function interaction(what: string, act: () => Promise<unknown>, condition: string): Promise<void> {
  await act();
  const at = await seen(condition);
  note(what, at - Number(await page.evaluate('window.lastInputAt')));
}
await page.addInitScript(`
  for (const type of ['keydown', 'pointerup', 'scroll'])
    addEventListener(type, ({ timeStamp }) => { window.lastInputAt = timeStamp; }, true);
`);
const activeIsThere =
  "document.querySelector('.grid-row.active .link') !== null && document.querySelector('.grid-row.active').id === document.querySelector('.grid').getAttribute('aria-activedescendant')";
const firstLink = "document.querySelector('.grid-body .link')";

for (let round = 0; round < ROUNDS; round++) {
  const begin = performance.now();
  await page.goto(`${controller.url}/volumes`);
  await seen(`${firstLink} !== null`);
  note('first view of the volumes', performance.now() - begin);
  await page.getByRole('grid').focus();
  for (const key of ['PageDown', 'End', 'Home'])
    await interaction(`${key}: the rows are there`, () => page.keyboard.press(key), activeIsThere);
  for (const column of ['Capacity', 'Name']) {
    await seen(`${firstLink} !== null`);
    const before = JSON.stringify(await page.evaluate(`${firstLink}?.textContent ?? null`));
    const click = () => page.getByRole('button', { name: column, exact: true }).click();
    await interaction(`sorted by ${column}`, click, `(${firstLink}?.textContent ?? ${before}) !== ${before}`);
  }
  const toTheMiddle = () =>
    page.evaluate("const grid = document.querySelector('.grid'); grid.scrollTop = grid.scrollHeight / 2");
  await interaction(
    'scrolled to the middle of all rows',
    toTheMiddle,
    `document.querySelector('.grid').scrollTop > 1e6 && ${firstLink} !== null`,
  );
  const name = `vm-${123_450 + round}-`;
  await page.getByLabel('Search in names').fill(name);
  const search = () => page.keyboard.press('Enter');
  await interaction('searched for part of a name', search, `${firstLink}?.textContent.includes('${name}')`);
  await page.goto(`${controller.url}/volumes?search=fresh-${round}`);
  await page.getByRole('grid').waitFor();
  const made = controller.api('/hosts/local/pools/default/volumes', {
    name: `fresh-${round}`,
    capacityBytes: 1024,
  });
  await made;
  const since = performance.now();
  await seen(`${firstLink}?.textContent === 'fresh-${round}'`);
  note('a volume that was made is on the screen', performance.now() - since);
}
const heap = Number(await page.evaluate('performance.memory.usedJSHeapSize')) / 2 ** 20;
for (const [what, all] of times) {
  const sorted = all.toSorted((one, other) => one - other);
  const [low = 0, median = 0, high = 0] = [sorted[0], sorted[Math.floor(sorted.length / 2)], sorted.at(-1)];
  console.log(
    `${what.padEnd(45)} ${median.toFixed(0).padStart(5)} ms  (${low.toFixed(0)} to ${high.toFixed(0)})`,
  );
}
console.log(`memory of the page's scripts ${heap.toFixed(1)} MiB`);
