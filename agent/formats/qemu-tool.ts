import { qemuImgCommands } from '../../shared/conf/qemu-img.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { runOk } from '../host/run.ts';
import type { Image } from '../images/image.ts';
import { serveImage } from '../images/nbd-server.ts';
import type { WantedVolume } from './format.ts';

/** How qemu-img opens an image: as an operand, and as options of its node. */
export interface ToolName {
  operand: string;
  options: string;
}

/** What qemu-img may add to an image at once where that can grow: tables. */
const MOST_GROWTH = 1 << 30;
/** Where qemu-img finds a passphrase: see the option `secret` of `run`. */
const SECRET_FILE = '/proc/self/fd/0';
const SECRET = ['--object', `secret,id=key,file=${SECRET_FILE}`];

/**
 * How long qemu-img may take to make a key of a passphrase: a quarter of its usual time. These are some 2,800,000 rounds of
 * PBKDF2 on a machine of 2024, where OWASP asks for 600,000; opening the volume takes as long. Tests take less.
 */
const KEY_MS = Number(process.env.STOWAGE_KEY_MS ?? 500);
const MOST_TRIES = 100;

/** qemu reads a comma as the end of a value, and two as one. */
export const escaped = (value: string): string => value.replaceAll(',', ',,');

/** Runs `work` with a name by which qemu-img opens an image, to read or to change. */
export async function withToolName<T>(
  image: Image,
  change: 'read' | 'change',
  work: (name: ToolName) => Promise<T>,
): Promise<T> {
  const { toolPath } = image;
  if (toolPath !== undefined) {
    const done = await work({ operand: toolPath, options: `file.filename=${escaped(toolPath)}` });
    if (change === 'change') await image.refreshSize?.();
    return done;
  }
  const grows = change === 'change' && image.setSize !== undefined;
  await using served = await serveImage(image, grows ? MOST_GROWTH : 0);
  const { socket } = served;
  try {
    return await work({
      operand: `nbd+unix:///?socket=${socket}`,
      options: `file.driver=nbd,file.server.type=unix,file.server.path=${escaped(socket)}`,
    });
  } catch (error) {
    // What the storage said tells more than what qemu-img makes of it.
    throw served.failure ?? error;
  }
}

/** The arguments of `qemu-img create` for a volume at `path`. It reads the passphrase of an encrypted one. */
function createArguments(path: string, volume: WantedVolume): string[] {
  const { capacityBytes, preallocate, qcow2: options, format, encryption } = volume;
  const isQcow2 = format === 'qcow2';
  const [create = []] = qemuImgCommands(
    {
      document: {
        type: 'file',
        // qemu takes the id of the key from this, which may not hold every character.
        name: 'volume',
        capacityBytes: BigInt(capacityBytes),
        // The metadata is written, the blocks are not reserved.
        allocationBytes: 0n,
        target: {
          path,
          format: isQcow2 ? 'qcow2' : 'raw',
          compat: options?.compat,
          clusterBytes: options?.clusterBytes === undefined ? undefined : BigInt(options.clusterBytes),
          features: options?.features,
          encryption: encryption && { format: 'luks', secrets: [{ uuid: encryption.secret ?? '' }] },
        },
      },
      secretFile: SECRET_FILE,
    },
    { preallocateMetadata: isQcow2 && preallocate, keyMs: KEY_MS },
  );
  return create;
}

/**
 * Runs `qemu-img create` for an empty volume in an image. It measures the machine before it makes a key, and now and then fails
 * as the kernel's clock of CPU time had not moved: it is asked again then.
 */
export async function createEmpty(image: Image, volume: WantedVolume, signal?: AbortSignal): Promise<void> {
  const secret = volume.encryption && passphraseOf(volume);
  await withToolName(image, 'change', async ({ operand }) => {
    for (let tries = 1; ; tries++)
      try {
        return await runOk('qemu-img', createArguments(operand, volume), { signal, secret });
      } catch (error) {
        if (tries === MOST_TRIES || !/accurate CPU usage/.test(String(error))) throw error;
      }
  });
  await image.flush();
}

/** The part of a `qemu-img convert` that names its source, and its encrypted target. */
export function encryptedTarget(format: 'luks' | 'qcow2', from: ToolName, to: ToolName): string[] {
  const key = format === 'qcow2' ? 'encrypt.key-secret' : 'key-secret';
  return [...SECRET, '--target-image-opts', from.operand, `driver=${format},${key}=key,${to.options}`];
}

/** What the node of an encrypted image is opened with, and how qemu-img is told of the key. */
export const ENCRYPTED_QCOW2 = { arguments: SECRET, options: ['encrypt.key-secret=key'] } as const;

/** What an encrypted volume is opened with. Throws `secret-missing` where the caller gave nothing. */
export function passphraseOf({ passphrase }: { passphrase?: string }): string {
  if (passphrase !== undefined) return passphrase;
  throw new StowageError(
    'secret-missing',
    'the volume is encrypted, and the secret that opens it was not given',
  );
}
