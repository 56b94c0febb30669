import { readFile, stat } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { Command, Option } from 'commander';
import { formatDisk, parseDisk } from '../../shared/conf/disk/disk.ts';
import { checkDisk } from '../../shared/conf/disk/rules.ts';
import { checkDomain } from '../../shared/conf/domain-rules.ts';
import { formatDomain, parseDomain } from '../../shared/conf/domain-xml.ts';
import { formatPool, parsePool } from '../../shared/conf/pool-xml.ts';
import { formatVolume, parseVolume } from '../../shared/conf/volume-xml.ts';
import { isStowageError, StowageError } from '../../shared/util/errors.ts';

/** No document is larger. */
const MOST_BYTES = 4 << 20;

interface XmlOptions {
  /** The document of the pool that a volume is in. */
  pool?: string;
  capacity?: 'optional';
  /** The form of a domain that does not run. */
  inactive?: boolean;
}

/** Kinds of documents, each with how it is read and written again in libvirt's canonical form. */
const KINDS: Record<string, (document: string, options: XmlOptions) => string | Promise<string>> = {
  pool: (document) => formatPool(parsePool(document)),
  async volume(document, { pool, capacity }) {
    const { type } = pool === undefined ? { type: 'dir' as const } : parsePool(await readDocument(pool));
    return formatVolume(parseVolume(document, { pool: type, capacity }));
  },
  disk(document, { inactive }) {
    const form = { live: !inactive };
    const disk = parseDisk(document, form);
    checkDisk(disk, { qemu: true });
    return formatDisk(disk, form);
  },
  domain(document, { inactive }) {
    const form = { live: !inactive };
    const domain = parseDomain(document, form);
    checkDomain(domain);
    return formatDomain(domain, form);
  },
};

/** A document from a file, or from standard input as `-`. */
export async function readDocument(path: string): Promise<string> {
  if (path === '-') return await text(process.stdin);
  const unreadable = (error: NodeJS.ErrnoException): never => {
    throw new StowageError(
      'invalid-argument',
      error.code === 'ENOENT' ? `there is no file ${path}` : `${path} cannot be read: ${error.message}`,
    );
  };
  const { size } = await stat(path).catch(unreadable);
  if (size > MOST_BYTES)
    throw new StowageError(
      'too-large',
      `${path} has more than ${MOST_BYTES >> 20} MiB: it is no document of libvirt`,
    );
  return await readFile(path, 'utf8').catch(unreadable);
}

/** The canonical form; what is wrong with the document goes to standard error, with status 1, as virsh does it. */
async function canonical(kind: string, path: string, options: XmlOptions): Promise<string | undefined> {
  const format = Object.hasOwn(KINDS, kind) ? KINDS[kind] : undefined;
  if (!format)
    throw new StowageError(
      'invalid-argument',
      `'${kind}' is no kind of document; there are: ${Object.keys(KINDS).join(', ')}`,
    );
  const document = await readDocument(path);
  try {
    return await format(document, options);
  } catch (error) {
    if (!isStowageError(error)) throw error;
    process.stderr.write(`error: ${error.message}\n`);
    process.exitCode = 1;
    return undefined;
  }
}

function withOptions(command: Command): Command {
  return command
    .option('--pool <file>', "the volume's pool; a directory pool when not given")
    .addOption(
      new Option('--capacity <when>', 'a volume may do without, as one made from another').choices([
        'optional',
      ]),
    )
    .option('--inactive', 'a disk or domain as it is saved, without what only a running domain has');
}

/** Documents of libvirt, looked at without any controller. */
export function xmlCommand(): Command {
  const xml = new Command('xml').description("libvirt's documents, without a controller");
  withOptions(xml.command('format <kind> <file>'))
    .description('write a document in its canonical form; - reads standard input')
    .action(async (kind: string, file: string, options: XmlOptions) => {
      process.stdout.write((await canonical(kind, file, options)) ?? '');
    });
  withOptions(xml.command('validate <kind> <file>'))
    .description('say what is wrong with a document, or nothing')
    .action(
      async (kind: string, file: string, options: XmlOptions) => void (await canonical(kind, file, options)),
    );
  return xml;
}
