import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkDomain } from '../../shared/conf/domain-rules.ts';
import { formatDomain, parseDomain } from '../../shared/conf/domain-xml.ts';
import { formatVolume, parseVolume } from '../../shared/conf/volume-xml.ts';
import { execute } from '../support/controller.ts';
import { scratch } from '../support/scratch.ts';
import { domainWith } from '../support/virsh.ts';
import { compare, seconds } from './pairs.ts';

const ROUNDS = Number(process.env.STOWAGE_BENCH_ROUNDS ?? 7);
const inactive = { live: false };

/** `vda`, … `vdz`, `vdaa`, … */
function diskName(index: number): string {
  const letters = (rest: number): string =>
    (rest >= 26 ? letters(Math.floor(rest / 26) - 1) : '') + String.fromCharCode(97 + (rest % 26));
  return `vd${letters(index)}`;
}

function domainOf(disks: number): string {
  const disk = (_: unknown, index: number): string =>
    `<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/><source file='/pool/v${index}'/><backingStore type='file'><format type='qcow2'/><source file='/pool/base'/></backingStore><target dev='${diskName(index)}' bus='virtio'/><iotune><total_bytes_sec>1000000</total_bytes_sec></iotune><serial>s${index}</serial></disk>`;
  return domainWith(Array.from({ length: disks }, disk).join('\n    '));
}

function volumeOf(index: number): string {
  return `<volume type='file'><name>v${index}</name><capacity unit='KiB'>${index}</capacity><allocation>0</allocation><target><path>/pool/v${index}</path><format type='qcow2'/><permissions><mode>0600</mode><owner>0</owner><group>0</group></permissions><compat>1.1</compat><features><lazy_refcounts/></features></target></volume>`;
}

/** Median milliseconds of what `work` takes. */
function milliseconds(work: () => void): number {
  const times = Array.from({ length: ROUNDS }, () => {
    const began = performance.now();
    work();
    return performance.now() - began;
  });
  return times.toSorted((one, other) => one - other)[Math.floor(ROUNDS / 2)]!;
}

function growth(what: string, sizes: number[], work: (size: number) => () => void): void {
  console.log(`\n${what}: parse, check and format (median of ${ROUNDS})`);
  for (const size of sizes) {
    const run = work(size);
    run();
    const took = milliseconds(run);
    console.log(
      `  ${String(size).padStart(6)}  ${took.toFixed(1)} ms, ${((took / size) * 1000).toFixed(1)} us each`,
    );
  }
}

growth('a domain of so many disks', [125, 250, 500, 1000, 2000, 4000], (size) => {
  const document = domainOf(size);
  return () => {
    const domain = parseDomain(document, inactive);
    checkDomain(domain);
    formatDomain(domain, inactive);
  };
});
growth('so many volumes', [1250, 2500, 5000, 10_000, 20_000], (size) => {
  const documents = Array.from({ length: size }, (_, index) => volumeOf(index));
  return () => {
    for (const document of documents) formatVolume(parseVolume(document, { pool: 'dir' }));
  };
});

await using room = scratch();
const domain = join(room.path, 'domain.xml');
writeFileSync(domain, domainOf(1000));
const volumes = join(room.path, 'volumes');
const commands = Array.from({ length: 10_000 }, (_, index) => {
  const file = join(room.path, `v${index}.xml`);
  writeFileSync(file, volumeOf(index));
  return `vol-create default-pool ${file}\nvol-dumpxml v${index} --pool default-pool\nvol-delete v${index} --pool default-pool`;
});
writeFileSync(volumes, `${commands.join('\n')}\nquit\n`);

async function run(command: string, ...args: string[]): Promise<void> {
  const { status, stderr } = await execute(command, args);
  if (status !== 0) throw new Error(`${command}: ${stderr.slice(0, 300)}`);
}
await compare(
  'a domain of 1000 disks, as a command',
  [
    {
      name: 'stowage xml format domain',
      run: () =>
        seconds(() =>
          run(process.execPath, 'controller/cli/stowage.ts', 'xml', 'format', 'domain', domain, '--inactive'),
        ),
    },
    {
      name: 'virsh define, dumpxml',
      run: () =>
        seconds(() =>
          run('virsh', '-q', '-c', 'test:///default', `define ${domain}; dumpxml --inactive guest`),
        ),
    },
    { name: 'virt-xml-validate', run: () => seconds(() => run('virt-xml-validate', domain, 'domain')) },
  ],
  ROUNDS,
);
const documents = Array.from({ length: 10_000 }, (_, index) => volumeOf(index));
await compare(
  '10,000 volumes, each by its document and back',
  [
    {
      name: 'stowage, in one process',
      run: () =>
        seconds(async () => {
          for (const document of documents) formatVolume(parseVolume(document, { pool: 'dir' }));
        }),
    },
    {
      name: 'virsh vol-create, vol-dumpxml',
      run: () => seconds(() => run('sh', '-c', `virsh -q -c test:///default < ${volumes} > /dev/null`)),
    },
  ],
  ROUNDS,
);
