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

/** What a file is that begins so, when it is a container or packed; undefined for what may well be a raw image. */
export function containerOf(head: Buffer): string | undefined {
  return SIGNATURES.find(({ at = 0, bytes }) => head.toString('latin1', at, at + bytes.length) === bytes)
    ?.name;
}
