import { Command, Option } from 'commander';
import { isStowageError, StowageError } from '../../shared/util/errors.ts';
import type { XmlOptions } from './documents.ts';
import { readDocument } from './read-document.ts';

/** The canonical form; what is wrong with the document goes to standard error, with status 1, as virsh does it. */
async function canonical(kind: string, path: string, options: XmlOptions): Promise<string | undefined> {
  // Only this command needs libvirt's documents: all others begin without them.
  const { KINDS } = await import('./documents.ts');
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
