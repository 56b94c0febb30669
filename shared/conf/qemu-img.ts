import { basename } from 'node:path';
import { StowageError } from '../util/errors.ts';
import type { VolumeDocument } from './volume-xml.ts';
import type { Encryption } from './xml/encryption.ts';
import { internalError, unsupported } from './xml/values.ts';

/** A volume that qemu-img reads or writes. Its document tells the path. */
export interface QemuImgVolume {
  document: VolumeDocument;
  /** A block device: its content is raw whatever the document says. */
  block?: boolean;
  /** Holds the passphrase of an encrypted volume, readable by qemu-img alone; the passphrase is never an argument. */
  secretFile?: string;
}

export interface QemuImgOptions {
  /** The volume whose content the new one takes over. */
  input?: QemuImgVolume;
  /** Write the metadata now, and reserve the blocks where the allocation is as large as the capacity. */
  preallocateMetadata?: boolean;
  /** How long it may take to make the key of an encrypted volume from its passphrase; qemu's 2000 when absent. */
  keyMs?: number;
}

/** qemu-img reads a comma as the end of a value, and two as one. */
const escaped = (value: string): string => value.replaceAll(',', ',,');

function pathOf({ document }: QemuImgVolume): string {
  const { path } = document.target;
  if (path === undefined) throw internalError(`volume '${document.name}' has no path`);
  return path;
}

/** The name of the format as qemu-img knows it. */
function formatOf({ document, block }: QemuImgVolume): string {
  const { format = 'raw' } = document.target;
  return block || format === 'iso' ? 'raw' : format;
}

const secretId = ({ document }: QemuImgVolume): string => `${basename(document.name)}_encrypt0`;

function secretObject(volume: QemuImgVolume): string[] {
  if (!volume.document.target.encryption) return [];
  if (volume.secretFile === undefined) throw internalError('missing secret for volume encryption');
  return ['--object', `secret,id=${escaped(secretId(volume))},file=${escaped(volume.secretFile)}`];
}

const ENCRYPTION_NUMBERS: Record<Encryption['format'], number> = { default: 0, qcow: 1, luks: 2, luks2: 3 };

function refuseEncryption(format: string, { format: encryption, secrets }: Encryption): void {
  if (format === 'raw') {
    if (encryption !== 'luks') throw internalError('Only luks encryption is supported for raw files');
  } else if (format === 'qcow2') {
    if (encryption === 'qcow' || encryption === 'default')
      throw unsupported('creation of qcow2 encrypted image is not supported');
    if (encryption !== 'luks')
      throw unsupported(`unsupported volume encryption format ${ENCRYPTION_NUMBERS[encryption]}`);
  } else throw unsupported(`volume encryption unsupported with format ${format}`);
  if (secrets.length !== 1)
    throw new StowageError(
      'invalid-xml',
      "invalid argument: A single <secret type='passphrase'...> element is expected in encryption description",
    );
}

/** `key-secret=…`, with what else the encryption says; inside qcow2 each begins with `encrypt.` */
function encryptionOptions(volume: QemuImgVolume, format: string, keyMs: number | undefined): string[] {
  const { encryption } = volume.document.target;
  if (!encryption) return [];
  const prefix = format === 'qcow2' ? 'encrypt.' : '';
  const { cipher, ivgen } = encryption;
  const given: Record<string, string | undefined> = {
    'key-secret': secretId(volume),
    'cipher-alg': cipher && `${cipher.name}-${cipher.sizeBits}`,
    'cipher-mode': cipher?.mode,
    'hash-alg': cipher?.hash,
    'ivgen-alg': ivgen?.name,
    'ivgen-hash-alg': ivgen?.hash,
    'iter-time': keyMs === undefined ? undefined : String(keyMs),
  };
  const options = Object.entries(given).flatMap(([name, value]) =>
    value === undefined ? [] : [`${prefix}${name}=${escaped(value)}`],
  );
  return format === 'qcow2' ? ['encrypt.format=luks', ...options] : options;
}

function featureOptions({ features = [] }: VolumeDocument['target'], compat: string): string[] {
  if (features.includes('lazy_refcounts') && compat === '0.10')
    throw unsupported(`lazy_refcounts not supported with compat level ${compat}`);
  if (features.includes('extended_l2') && compat === '0.10')
    throw unsupported(`'extended_l2' not supported with compat level ${compat}`);
  return [
    ...(features.includes('lazy_refcounts') ? ['lazy_refcounts'] : []),
    ...(features.includes('extended_l2') ? ['extended_l2=on'] : []),
  ];
}

/** What `-o` says, in libvirt's order. */
function optionsOf(
  volume: QemuImgVolume,
  format: string,
  {
    backingFormat,
    preallocate,
    keyMs,
  }: { backingFormat: string | undefined; preallocate: boolean; keyMs: number | undefined },
): string[] {
  const { target, capacityBytes, allocationBytes } = volume.document;
  const qcow2 = format === 'qcow2';
  // What libvirt 11 takes; libvirt 9 still took 0.10.
  const compat = target.compat ?? '1.1';
  const options = [
    ...(backingFormat === undefined ? [] : [`backing_fmt=${backingFormat}`]),
    ...encryptionOptions(volume, format, keyMs),
    ...(preallocate ? [`preallocation=${capacityBytes > allocationBytes ? 'metadata' : 'falloc'}`] : []),
    ...(target.nocow ? ['nocow=on'] : []),
    ...(qcow2 ? [`compat=${compat}`] : []),
    ...(qcow2 && target.clusterBytes ? [`cluster_size=${target.clusterBytes}`] : []),
    ...(qcow2 ? featureOptions(target, compat) : []),
  ];
  return options.length > 0 ? ['-o', options.join(',')] : [];
}

/** How `--image-opts` names an image. */
function imageOptions(volume: QemuImgVolume): string {
  const format = formatOf(volume);
  const { encryption } = volume.document.target;
  const driver = encryption && format === 'raw' ? 'luks' : format;
  const key = encryption
    ? [`${format === 'qcow2' ? 'encrypt.' : ''}key-secret=${escaped(secretId(volume))}`]
    : [];
  return [`driver=${driver}`, `file.filename=${escaped(pathOf(volume))}`, ...key].join(',');
}

/**
 * The argument lists of the qemu-img runs that make a volume, as libvirt runs them: one, or where one side is encrypted
 * two, for `convert` cannot make an encrypted image. Throws `invalid-xml` in libvirt's words for what cannot be made.
 */
export function qemuImgCommands(volume: QemuImgVolume, options: QemuImgOptions = {}): string[][] {
  const { input, preallocateMetadata: preallocate = false, keyMs } = options;
  const { target, backingStore, capacityBytes } = volume.document;
  const format = formatOf(volume);
  if (preallocate && format !== 'qcow2')
    throw unsupported('metadata preallocation only available with qcow2');
  if (backingStore) {
    if (preallocate) throw unsupported('metadata preallocation conflicts with backing store');
    const below = input?.document.backingStore;
    if (below && below.path !== backingStore.path)
      throw internalError('a different backing store cannot be specified.');
  }
  if (target.encryption) refuseEncryption(format, target.encryption);
  const type = target.encryption && format === 'raw' ? 'luks' : format;
  // What is taken over is whole: it stands on nothing.
  const backing = input ? undefined : backingStore;
  const written = optionsOf(volume, format, {
    backingFormat: backing && (backing.format ?? 'raw'),
    preallocate,
    keyMs,
  });
  const path = pathOf(volume);
  // In KiB, rounded up; that of what it stands on where nothing is said.
  const size = capacityBytes === 0n && backing ? [] : [`${(capacityBytes + 1023n) / 1024n}K`];
  const create = [
    ...['create', '-f', type, ...(backing ? ['-b', backing.path] : [])],
    ...[...secretObject(volume), ...written, path, ...size],
  ];
  if (!input) return [create];
  if (!target.encryption && !input.document.target.encryption)
    return [['convert', '-f', formatOf(input), '-O', type, ...written, pathOf(input), path]];
  const convert = [
    ...['convert', '--image-opts', '-n', '--target-image-opts'],
    ...[...secretObject(volume), ...secretObject(input), imageOptions(input), imageOptions(volume)],
  ];
  return [create, convert];
}
