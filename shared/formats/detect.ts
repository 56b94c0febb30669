/** How containers and packed files begin, or what stands at an offset of theirs. */
const SIGNATURES: readonly { name: string; at?: number; bytes: string }[] = [
  { name: 'qcow2', bytes: 'QFI\xfb' },
  { name: 'luks', bytes: 'LUKS\xba\xbe\0\x01' },
  { name: 'vmdk', bytes: 'KDMV' },
  { name: 'vmdk', bytes: '# Disk DescriptorFile' },
  { name: 'vdi', at: 64, bytes: '\x7f\x10\xda\xbe' },
  { name: 'vhdx', bytes: 'vhdxfile' },
  { name: 'vpc', bytes: 'conectix' },
  { name: 'qed', bytes: 'QED\0' },
  { name: 'ploop', bytes: 'WithoutFreeSpace' },
  { name: 'ploop', bytes: 'WithouFreSpacExt' },
  { name: 'gzip', bytes: '\x1f\x8b\x08' },
  { name: 'xz', bytes: '\xfd7zXZ\0' },
  { name: 'zstd', bytes: '\x28\xb5\x2f\xfd' },
];

/** Of these, what tools pack any file into. */
const PACKED: ReadonlySet<string> = new Set(['gzip', 'xz', 'zstd']);

/** What a file is that begins so, when it is a container or packed; undefined for what may well be a raw image. */
export function containerOf(head: Buffer): string | undefined {
  return SIGNATURES.find(({ at = 0, bytes }) => head.toString('latin1', at, at + bytes.length) === bytes)
    ?.name;
}

/** The formats of images that are read here, so that a file of theirs is uploaded as what is in it. */
export const SOURCE_FORMATS = ['raw', 'qcow2', 'vmdk'] as const;
export type SourceFormat = (typeof SOURCE_FORMATS)[number];

/** How what is in a container comes into a volume. */
function waysIn(container: string): string {
  if ((SOURCE_FORMATS as readonly string[]).includes(container))
    return `--source-format ${container} uploads what a guest sees of it`;
  if (PACKED.has(container)) return 'unpack it first';
  return container === 'luks' || container === 'ploop'
    ? `--format ${container} makes it a volume of that format`
    : 'convert it first, as by qemu-img convert -O qcow2';
}

/** Why an image in one format is no volume of another. */
export const mislabelled = (container: string, format: string): string =>
  `the file looks like ${container}, and the volume would be ${format}: ${waysIn(container)}, --format ${format} keeps its bytes as they are`;

/** Why a container is not content. */
export const wrapped = (container: string): string =>
  `the file looks like ${container}, and a guest would see that instead of what is in it: ${waysIn(container)}, --source-format raw takes its bytes as they are`;
