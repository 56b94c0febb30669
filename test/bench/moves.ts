import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { MigrationRoom, makeImage } from '../support/migration.ts';
import { compare, seconds } from './pairs.ts';

/** Migrations that take a longer way, and many at once; always between two hosts, durable at the end. */
const ROUNDS = Number(process.env.STOWAGE_BENCH_ROUNDS ?? 7);
const MANY = 10;

function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

async function prepare(room: MigrationRoom, names: string[], sizeMiB: number): Promise<void> {
  for (const name of names) await makeImage(join(room.sourcePool, name), sizeMiB);
  await room.controller.api(`/hosts/${room.source.name}/pools/p/refresh`, {});
}

async function move(room: MigrationRoom, name: string): Promise<void> {
  const ended = await room.controller.ended(await room.migrate(name, { keep: true }));
  if (ended.state !== 'done') throw new Error(`${ended.error?.message}`);
}

const remove = (room: MigrationRoom, name: string): Promise<unknown> =>
  room.controller.api(`/hosts/${room.sink.name}/pools/p/volumes/${name}`, undefined, 'DELETE');

/** One that moves a volume and notes the CPU of the controller. */
function contender(title: string, room: MigrationRoom, cpu: number[]) {
  return {
    name: title,
    async run() {
      const before = cpuSeconds(room.controller.pid);
      const took = await seconds(() => move(room, 'big'));
      cpu.push(cpuSeconds(room.controller.pid) - before);
      await remove(room, 'big');
      return took;
    },
  };
}

await using direct = await MigrationRoom.open();
await using relayed = await MigrationRoom.open();
relayed.source.blind(relayed.sink);
relayed.sink.blind(relayed.source);
for (const room of [direct, relayed]) await prepare(room, ['big'], 1024);
const cpu: number[][] = [[], []];
await compare(
  '1 GiB random, straight and through the controller',
  [contender('straight', direct, cpu[0]!), contender('relayed', relayed, cpu[1]!)],
  ROUNDS,
);
for (const [index, title] of ['straight', 'relayed'].entries()) {
  const counted = cpu[index]!.slice(1).toSorted((left, right) => left - right);
  console.log(
    `  controller's CPU, ${title}: median ${counted[Math.floor(counted.length / 2)]!.toFixed(2)} s`,
  );
}

const names = Array.from({ length: MANY }, (_, index) => `part-${index}`);
await prepare(direct, names, 128);
const cleared = async (work: () => Promise<unknown>): Promise<number> => {
  const took = await seconds(work);
  for (const name of names) await remove(direct, name);
  return took;
};
await compare(
  `${MANY} volumes of 128 MiB`,
  [
    {
      name: 'one after the other',
      run: () =>
        cleared(async () => {
          for (const name of names) await move(direct, name);
        }),
    },
    { name: 'all at once', run: () => cleared(() => Promise.all(names.map((name) => move(direct, name)))) },
  ],
  ROUNDS,
);
