import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import type { ReadableStream } from 'node:stream/web';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Page } from 'playwright-core';
import type { Job } from '../../shared/protocol/api.ts';
import { accept, TestBrowser } from '../support/browser.ts';
import { TestController, until } from '../support/controller.ts';
import { scratch } from '../support/scratch.ts';

/**
 * What a tab needs that is open while the fleet changes: its heap after a collection, the nodes of its document and its listeners, as
 * events pass. STOWAGE_BENCH_EVENTS says how many; those of an hour, at ten a second, unless told.
 */
const EVENTS = Number(process.env.STOWAGE_BENCH_EVENTS ?? 36_000);
const LOOKS = 12;
const WORKERS = 4;
const PAGES = ['/', '/volumes', '/jobs', '/pools/local/default'];

await using room = scratch();
await using controller = await TestController.start(join(room.path, 'data'), []);
await until('the first pool', async () => (await controller.cliOk('pool', 'list')).includes('running'));
await using browser = await TestBrowser.start();
const first = await browser.open();
await accept(first, controller.link, 'ada');

let events = 0;
const stream = await controller.fetch('/events');
const input = Readable.fromWeb(stream.body as ReadableStream);
const lines = createInterface({ input });
// At the end the controller hangs up.
let isOver = false;
for (const each of [input, lines])
  each.on('error', (error) => {
    if (!isOver) throw error;
  });
lines.on('line', (line) => {
  if (line.startsWith('data:')) events++;
});

const volumes = '/hosts/local/pools/default/volumes';
/** Makes volumes, clones them by a job, and deletes them, again and again. */
async function change(worker: number): Promise<void> {
  for (let round = 0; !isOver; round++) {
    const name = `w${worker}-${round}`;
    await controller.api(volumes, { name, format: 'raw', capacityBytes: 65_536 });
    const { id } = await controller.api<Job>(`${volumes}/${name}/clone`, { name: `${name}-clone` });
    await until('the clone', async () => (await controller.api<Job>(`/jobs/${id}`)).state === 'done');
    for (const each of [name, `${name}-clone`])
      await controller.api(`${volumes}/${each}`, undefined, 'DELETE');
  }
}

/** After a collection of what nobody needs. */
async function measured(page: Page): Promise<string> {
  const session = await page.context().newCDPSession(page);
  await session.send('HeapProfiler.collectGarbage');
  const { usedSize } = await session.send('Runtime.getHeapUsage');
  const { nodes, jsEventListeners } = await session.send('Memory.getDOMCounters');
  await session.detach();
  return `${(usedSize / 2 ** 20).toFixed(1).padStart(6)} MiB ${String(nodes).padStart(6)} ${String(jsEventListeners).padStart(5)}`;
}

const pages = await Promise.all(
  PAGES.map(async (path, index) => {
    const page = index === 0 ? first : await first.context().newPage();
    await page.goto(`${controller.url}${path}`);
    await page.getByRole('heading', { level: 1 }).waitFor();
    return page;
  }),
);
console.log(`events  ${PAGES.map((path) => `${path} (heap, nodes, listeners)`.padEnd(26)).join('  ')}`);
const work = Promise.all(Array.from({ length: WORKERS }, (_, worker) => change(worker)));
// What fails ends the run.
const failed = work.then(() => new Promise<never>(() => undefined));
for (let look = 0; look <= LOOKS; look++) {
  await Promise.race([failed, until('events', () => events >= (EVENTS * look) / LOOKS, 3_600_000)]);
  // The tabs have shown what they were told.
  await sleep(1000);
  const told: string[] = [];
  for (const page of pages) told.push((await measured(page)).padEnd(26));
  console.log(`${String(events).padStart(6)}  ${told.join('  ')}`);
}
isOver = true;
await work;
lines.close();
input.destroy();
