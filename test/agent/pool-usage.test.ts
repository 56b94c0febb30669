import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { loadBackends } from '../../agent/backends/registry.ts';
import { fillOf } from '../../agent/pools/fill.ts';
import { forecast } from '../../agent/pools/forecast.ts';
import { Pools } from '../../agent/pools/pools.ts';
import { UsageHistory } from '../../agent/pools/usage-history.ts';
import { AgentState } from '../../agent/state.ts';
import { Sinks } from '../../agent/transfer/sinks.ts';
import { poolDefinitionSchema } from '../../shared/conf/pool.ts';
import { documentOf } from '../../shared/conf/pool-document.ts';
import { parsePool } from '../../shared/conf/pool-xml.ts';
import { scratch } from '../support/scratch.ts';

const DAY = 24 * 3600_000;
const STEP = 600_000;
const GIB = 2 ** 30;

/** Numbers that look random and are the same each time, with mean 0 and variance 1. */
function* noise(seed: number): Generator<number> {
  let state = seed;
  const next = (): number => {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32;
    return (state + 1) / (2 ** 32 + 1);
  };
  for (;;) yield Math.sqrt(-2 * Math.log(next())) * Math.cos(2 * Math.PI * next());
}

describe('how a pool fills up', () => {
  test('a steady rate is found exactly, with the time when it is full', () => {
    const samples = Array.from({ length: 7 * 144 }, (_, index) => ({
      at: index * STEP,
      bytes: 10 * GIB + (index * GIB) / 144,
    }));
    const found = forecast(samples, 20 * GIB)!;
    assert.ok(Math.abs(found.bytesPerDay - GIB) < GIB / 100, `${found.bytesPerDay}`);
    assert.ok(found.errorBytesPerDay < GIB / 20);
    const days = (found.fullAt! - found.to) / DAY;
    assert.ok(Math.abs(days - 3) < 0.1, `${days} days`);
    assert.ok(found.fullAtEarliest! <= found.fullAt! && found.fullAt! <= found.fullAtLatest!);
  });

  test('of a hundred noisy histories the true rate lies within the error in at least ninety', () => {
    let within = 0;
    for (let seed = 1; seed <= 100; seed++) {
      const random = noise(seed);
      const samples = Array.from({ length: 3 * 144 }, (_, index) => ({
        at: index * STEP,
        bytes: 10 * GIB + (index * GIB) / 144 + random.next().value * 4 * GIB,
      }));
      const { bytesPerDay, errorBytesPerDay } = forecast(samples, 100 * GIB)!;
      if (Math.abs(bytesPerDay - GIB) <= errorBytesPerDay) within++;
    }
    assert.ok(within >= 90, `${within}`);
  });

  test('what stays as it is, empties, or was seen for too short a time is never full', () => {
    const seen = (rate: number, count: number) =>
      forecast(
        Array.from({ length: count }, (_, index) => ({ at: index * STEP, bytes: 10 * GIB + index * rate })),
        20 * GIB,
      );
    assert.equal(seen(0, 100)?.fullAt, undefined);
    assert.equal(seen(0, 100)?.fullAtEarliest, undefined);
    assert.equal(seen(-1 << 20, 100)?.fullAt, undefined);
    assert.equal(seen(1 << 20, 6), undefined);
    assert.equal(forecast([], GIB), undefined);
  });

  test('a history outlives its agent, forgets what is old, and costs nothing while nothing changes', async () => {
    await using room = scratch();
    const path = join(room.path, 'usage.log');
    const space = (used: number) => ({
      capacityBytes: 100,
      allocationBytes: used,
      availableBytes: 100 - used,
      metadata: { capacityBytes: 10, allocationBytes: used / 10 },
    });
    {
      await using history = await UsageHistory.open(path);
      for (let index = 0; index < 100; index++) await history.add(index * STEP, space(50));
      // Between two steps nothing is noted.
      await history.add(99 * STEP + 1, space(99));
    }
    {
      await using history = await UsageHistory.open(path);
      const { data } = history.forecast(space(50));
      assert.deepEqual([data?.from, data?.to, data?.bytesPerDay], [0, 99 * STEP, 0]);
      for (let index = 100; index < 200; index++) await history.add(index * STEP, space(index / 4 + 25));
      const { data: later, metadata } = history.forecast(space(75));
      assert.ok(later!.bytesPerDay > 0 && metadata!.bytesPerDay > 0);
      assert.ok(metadata!.fullAt! > later!.to);
      // What is too old holds up to the oldest that is not: a pool that rests keeps its forecast.
      await history.add(199 * STEP + 8 * DAY, space(75));
      await history.add(200 * STEP + 8 * DAY, space(75));
      const { data: rested } = history.forecast(space(75));
      assert.deepEqual([rested?.bytesPerDay, rested!.to - rested!.from], [0, 7 * DAY]);
    }
    assert.ok(readFileSync(path, 'utf8').split('\n').length < 1000);
  });

  test('a pool at a limit is told once, and again only when it has clearly left it', () => {
    const at = (percent: number) => ({
      capacityBytes: 100,
      allocationBytes: percent,
      availableBytes: 100 - percent,
    });
    const fills: string[] = [];
    let fill: ReturnType<typeof fillOf> = 'normal';
    for (const percent of [79, 80, 79, 81, 95, 94, 92.5, 78.5, 77, 80]) {
      fill = fillOf(at(percent), undefined, fill);
      fills.push(fill);
    }
    assert.deepEqual(fills, [
      'normal',
      'warning',
      'warning',
      'warning',
      'critical',
      'critical',
      'warning',
      'warning',
      'normal',
      'warning',
    ]);
    const metadata = { capacityBytes: 100, allocationBytes: 96 };
    assert.equal(fillOf({ ...at(10), metadata }), 'critical', 'metadata runs full as data does');
  });
});

describe('what the volumes of a pool may have together', () => {
  test('of many that are made at once no more succeed than the limit allows', async () => {
    await using room = scratch();
    const path = join(room.path, 'pool');
    mkdirSync(path);
    await using state = await AgentState.open(join(room.path, 'state'));
    const pools = await Pools.open(state, await loadBackends(undefined));
    const definition = poolDefinitionSchema.parse({
      name: 'p',
      uuid: randomUUID(),
      type: 'dir',
      target: { path },
    });
    await pools.define(definition);
    const { capacityBytes } = await pools.start('p');
    assert.equal(pools.get('p').fill !== undefined, true);
    await pools.setLimits('p', { warningPercent: 80, criticalPercent: 95, provisionedPercent: 100 });
    const operations = await pools.operations('p');
    const size = Math.floor(capacityBytes / 4.5 / GIB) * GIB;
    const create = async (name: string): Promise<void> => {
      using _reserved = pools.reserve('p', size);
      await operations.create({ name, capacityBytes: size, format: 'qcow2', preallocate: false });
    };
    const results = await Promise.allSettled(Array.from({ length: 12 }, (_, index) => create(`v${index}`)));
    assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 4);
    for (const result of results)
      if (result.status === 'rejected') assert.equal(result.reason.code, 'pool-overcommitted');
    assert.equal(pools.get('p').provisionedBytes, 4 * size);
    await pools.setLimits('p', undefined);
    await create('one-more');
    await pools.stop('p');
    await pools.close();
  });

  test('an image that is small and may grow large does not become a volume', async () => {
    await using room = scratch();
    const path = join(room.path, 'pool');
    mkdirSync(path);
    await using state = await AgentState.open(join(room.path, 'state'));
    const pools = await Pools.open(state, await loadBackends(undefined));
    await pools.define(
      poolDefinitionSchema.parse({ name: 'p', uuid: randomUUID(), type: 'dir', target: { path } }),
    );
    const { capacityBytes } = await pools.start('p');
    await pools.setLimits('p', { warningPercent: 80, criticalPercent: 95, provisionedPercent: 100 });
    const file = join(room.path, 'image');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', file, String(4 * capacityBytes)]);
    const bytes = readFileSync(file);
    const sinks = new Sinks(pools);
    const sink = await sinks.begin({
      id: randomUUID(),
      pool: 'p',
      volume: 'v',
      format: 'qcow2',
      representation: 'image',
      parts: [{ name: '', sizeBytes: bytes.length, dense: false }],
      replace: false,
      allowUsed: false,
      digest: 'gmac',
    });
    const chunk = Buffer.from(bytes);
    const digest = await sink.digests.map.digestOf(chunk);
    const data = { bytes: chunk, ranges: [{ start: 0, end: chunk.length }] };
    await sink.write({ index: 0, digest, verified: Promise.resolve(), data });
    await assert.rejects(sinks.reserveGrowth(sink), { code: 'pool-overcommitted' });
    await pools.setLimits('p', undefined);
    {
      using _growth = await sinks.reserveGrowth(sink);
    }
    await sinks.drop(sink.spec.id);
    await pools.stop('p');
    await pools.close();
  });

  test('limits are part of the document of a pool, under any prefix, and wrong ones are refused', () => {
    const limits = { warningPercent: 70, criticalPercent: 90, provisionedPercent: 150 };
    const pool = poolDefinitionSchema.parse({
      name: 'p',
      uuid: randomUUID(),
      type: 'dir',
      target: { path: '/srv/p' },
      limits,
    });
    const sizes = { capacityBytes: 0, allocationBytes: 0, availableBytes: 0 };
    const xml = documentOf(pool, sizes);
    assert.match(xml, /<stowage:limits warning='70' critical='90' provisioned='150'\/>/);
    assert.deepEqual(parsePool(xml).limits, limits);
    assert.deepEqual(
      parsePool(xml.replace('<stowage:', '<other:').replace('xmlns:stowage=', 'xmlns:other=')).limits,
      limits,
    );
    assert.throws(() => parsePool(xml.replace("warning='70'", "warning='95'")), { code: 'invalid-xml' });
    assert.throws(() => parsePool(xml.replace("'70'", "'many'")), { code: 'invalid-xml' });
    assert.doesNotMatch(documentOf({ ...pool, limits: undefined }, sizes), /stowage/);
  });
});
