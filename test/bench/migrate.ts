import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { execute } from '../support/controller.ts';
import { MigrationRoom, makeImage } from '../support/migration.ts';
import { compare, seconds } from './pairs.ts';

const ROUNDS = Number(process.env.STOWAGE_BENCH_ROUNDS ?? 7);

/** User and system CPU seconds of a process so far. */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

await using room = await MigrationRoom.open();
const { source, sink } = room;
const target = join(room.path, 'copied');
const ssh = [
  '-i',
  sink.identity,
  '-o',
  'StrictHostKeyChecking=no',
  '-o',
  'UserKnownHostsFile=/dev/null',
  '-o',
  'LogLevel=ERROR',
  '-p',
  String(sink.port),
];
const gcm = ['-c', 'aes128-gcm@openssh.com'];
const address = `${sink.user}@${sink.address}`;

async function run(args: string[]): Promise<void> {
  const [tool = '', ...rest] = source.command(args);
  const { status, stderr } = await execute(tool, rest);
  if (status !== 0) throw new Error(`${args.join(' ')}: ${stderr}`);
}

/** A copy by another tool, durable at the end, the target gone before. */
const other = (name: string, command: string[]) => ({
  name,
  async run() {
    rmSync(target, { force: true });
    return seconds(async () => {
      await run(command);
      await run(['sync', target]);
    });
  },
});

for (const { title, sizeMiB, dataMiB } of [
  { title: '1 GiB random, host to host, durable', sizeMiB: 1024, dataMiB: 1024 },
  { title: '4 GiB holding 256 MiB, host to host, durable', sizeMiB: 4096, dataMiB: 256 },
]) {
  const name = `bench-${sizeMiB}`;
  const file = join(room.sourcePool, name);
  await makeImage(file, sizeMiB, dataMiB);
  await room.controller.api(`/hosts/${source.name}/pools/p/refresh`, {});
  const cpu: number[] = [];
  const ours = {
    name: 'stowage migrate',
    async run() {
      const before = cpuSeconds(source.agentPid()!) + cpuSeconds(sink.agentPid()!);
      const took = await seconds(async () => {
        const job = await room.migrate(name, { keep: true });
        const ended = await room.controller.ended(job);
        if (ended.state !== 'done') throw new Error(`${ended.error?.message}`);
      });
      cpu.push(cpuSeconds(source.agentPid()!) + cpuSeconds(sink.agentPid()!) - before);
      await room.controller.api(`/hosts/${sink.name}/pools/p/volumes/${name}`, undefined, 'DELETE');
      return took;
    },
  };
  const scp = ['scp', '-q', ...ssh.slice(0, -2), '-P', String(sink.port)];
  const rsync = ['rsync', '-W', '-e', ['ssh', ...ssh, ...gcm].join(' ')];
  const dense = dataMiB === sizeMiB;
  await compare(
    title,
    [
      ours,
      other('scp', [...scp, file, `${address}:${target}`]),
      // What sends every zero takes long; scp stands for it.
      ...(dense
        ? [
            other('rsync -W, aes128-gcm', [...rsync, file, `${address}:${target}`]),
            other('scp, aes128-gcm', [...scp, ...gcm, file, `${address}:${target}`]),
            other('ssh cat, aes128-gcm', [
              'sh',
              '-c',
              `cat ${file} | ssh ${[...ssh, ...gcm].join(' ')} ${address} 'cat > ${target}'`,
            ]),
            // The strongest of them: past the page cache at the far end.
            other('ssh cat gcm into dd direct', [
              'sh',
              '-c',
              `cat ${file} | ssh ${[...ssh, ...gcm].join(' ')} ${address} 'dd of=${target} bs=1M iflag=fullblock oflag=direct conv=fsync status=none'`,
            ]),
            other('dd direct, one disk, no wire', [
              'dd',
              `if=${file}`,
              `of=${target}`,
              'bs=1M',
              'oflag=direct',
              'conv=fsync',
              'status=none',
            ]),
          ]
        : [other('rsync --sparse, aes128-gcm', [...rsync, '--sparse', file, `${address}:${target}`])]),
    ],
    ROUNDS,
  );
  console.log(
    `  agents' CPU, both ends together: ${(cpu.slice(1).reduce((sum, value) => sum + value, 0) / ROUNDS / (dataMiB / 1024)).toFixed(2)} s per GiB of data`,
  );
  rmSync(file);
}
