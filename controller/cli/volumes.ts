import { Command, Option } from 'commander';
import type { TrashedVolume } from '../../shared/conf/trash.ts';
import type { Finding, MappedVolume, Volume } from '../../shared/conf/volume.ts';
import { WIPE_ALGORITHMS } from '../../shared/conf/wipe-algorithms.ts';
import { XML_TYPE } from '../../shared/conf/xml/write.ts';
import { SOURCE_FORMATS, type SourceFormat } from '../../shared/formats/detect.ts';
import type { FleetVolume, Job, VolumeDetails } from '../../shared/protocol/api.ts';
import type { VolumeUser } from '../../shared/protocol/domains.ts';
import type { Reading } from '../../shared/protocol/reading.ts';
import { StowageError, toStowageError } from '../../shared/util/errors.ts';
import { formatBytes, parseSize, spanOf } from '../../shared/util/units.ts';
import { attributeCommands } from './attributes.ts';
import { callJson, callText, send } from './client.ts';
import { type Confirmation, confirm, yesOption } from './confirm.ts';
import { freeByJob, freeingOptions } from './freeing.ts';
import { table } from './listing.ts';
import { fields, printable, show, time, warn } from './output.ts';
import { readDocument } from './read-document.ts';
import { type PoolReference, poolPath, poolReference, volumePath, volumeReference } from './references.ts';
import { snapshotCommand } from './snapshots.ts';
import { volumeListCommand } from './volume-list.ts';
import { copyCommand, finish, migrateCommand } from './volume-moves.ts';
import { allowUsedOption, formatOption, secretOption, snapshotOption, usedQuery } from './volume-options.ts';

const asOption = () =>
  new Option('--as <representation>', 'image: the stored file; content: what the guest sees')
    .choices(['image', 'content'])
    .default('image');

const userText = ({ domain, origin, state, target, role, through }: VolumeUser): string =>
  [
    `${domain} (${origin === 'stowage' ? state : `${origin}, ${state}`}) as ${target}`,
    role === 'mirror' ? 'mirror' : '',
    through.length > 0 ? `through ${through.join(', ')}` : '',
  ]
    .filter((part) => part !== '')
    .join(' ');

function describe(volume: VolumeDetails): string {
  return fields([
    ['volume', `${volume.host}/${volume.pool}/${volume.name}`],
    ['id', volume.id],
    ['type', volume.type],
    ['format', volume.format],
    [
      'encrypted',
      volume.encryption && `with the secret ${volume.encryption.secret ?? `of usage ${volume.path}`}`,
    ],
    ['path', volume.path],
    ['capacity', `${formatBytes(volume.capacityBytes)} (${volume.capacityBytes} bytes)`],
    ['allocation', `${formatBytes(volume.allocationBytes)} (${volume.allocationBytes} bytes)`],
    ['snapshots', volume.snapshotCount],
    ['backing store', volume.backingStore?.path],
    ['base', volume.isBase ? 'yes, it takes no write' : undefined],
    ['linked clones', volume.clones.join(' ')],
    ['linked clone of', volume.parent ?? volume.parentId],
    [
      'copy of',
      volume.copyOf &&
        [
          volume.copyOf.source ?? volume.copyOf.sourceId,
          volume.copyOf.snapshot === undefined ? '' : `at ${volume.copyOf.snapshot}`,
          `since ${time(volume.copyOf.copiedAt)}`,
        ]
          .filter((part) => part !== '')
          .join(' '),
    ],
    ['protected', volume.isProtected ? 'yes' : undefined],
    ['notes', volume.notes],
    ['damaged', volume.damaged],
    ['mapped as', volume.mappedAs],
    ['in use by', volume.heldBy.join('; ')],
    ['used by', volume.users ? volume.users.map(userText).join('; ') : 'not known now'],
  ]);
}

const told = (reference: string, volume: Volume): string =>
  `${reference}: ${volume.format}, ${formatBytes(volume.capacityBytes)}, ${formatBytes(volume.allocationBytes)} on disk`;

/** The name of a clone, which may be given as a place in the same pool. */
function cloneName(source: string, target: string): string {
  if (!target.includes('/')) return target;
  const [from, to] = [volumeReference(source), volumeReference(target)];
  if (from.host === to.host && from.pool === to.pool) return to.volume;
  throw new StowageError(
    'invalid-argument',
    `a clone is made in the same pool; into another: stowage vol copy ${source} ${target}`,
  );
}

const throughOption = () =>
  new Option('--through-controller', 'do not try to reach the host itself, which is the faster way');

interface DownloadOptions extends Reading {
  force?: boolean;
  throughController?: boolean;
}

interface UploadOptions extends Confirmation {
  throughController?: boolean;
  format?: string;
  secret?: string;
  as: 'image' | 'content';
  sourceFormat?: SourceFormat;
  allowUsed?: boolean;
}

interface CreateOptions {
  capacity?: string;
  format?: string;
  preallocate?: boolean;
  ploopVersion?: string;
  secret?: string;
  xml?: string;
}

/** Where a new volume goes, and what is asked for. */
async function newVolume(
  text: string,
  { capacity, format, preallocate, ploopVersion, secret, xml }: CreateOptions,
): Promise<{ place: PoolReference; body: { xml: string } | { json: unknown } }> {
  if (xml !== undefined) return { place: poolReference(text), body: { xml: await readDocument(xml) } };
  const place = volumeReference(text);
  if (capacity === undefined)
    throw new StowageError('invalid-argument', 'a new volume needs --capacity, or a document with --xml');
  const json = {
    name: place.volume,
    capacityBytes: parseSize(capacity),
    format,
    secret,
    preallocate: Boolean(preallocate),
    ploop: ploopVersion ? { version: Number(ploopVersion) } : undefined,
  };
  return { place, body: { json } };
}

interface DeleteOptions extends Confirmation {
  allowUsed?: boolean;
  deleteSnapshots?: boolean;
  trash?: boolean;
  keep?: string;
  wipe?: boolean;
  limit?: string;
}

/** How to ask for a volume to go, and what is said of it then. */
function deletion({ trash, keep, wipe, limit, deleteSnapshots, allowUsed }: DeleteOptions) {
  const query = new URLSearchParams(allowUsed ? { allowUsed: 'true' } : {});
  if (wipe && keep !== undefined) throw new StowageError('invalid-argument', '--keep goes with --trash');
  if (wipe && deleteSnapshots) query.set('deleteSnapshots', 'true');
  if (wipe) return { run: (path: string) => freeByJob(`${path}/free?${query}`, limit) };
  if (limit !== undefined) throw new StowageError('invalid-argument', '--limit goes with --wipe');
  if (!trash) {
    if (keep !== undefined) throw new StowageError('invalid-argument', '--keep goes with --trash');
    if (deleteSnapshots) query.set('deleteSnapshots', 'true');
    return {
      async run(path: string): Promise<string> {
        await send(`${path}?${query}`, { method: 'DELETE' });
        return 'deleted';
      },
    };
  }
  const keepMs = keep === undefined ? undefined : spanOf(keep);
  if (keep !== undefined && keepMs === undefined)
    throw new StowageError('invalid-argument', `'${keep}' is no span of time, such as 12h or 30d`);
  const json = keepMs === undefined ? {} : { keepSeconds: keepMs / 1000 };
  return {
    async run(path: string): Promise<string> {
      const { id, keepUntil } = await callJson<TrashedVolume>(`${path}/trash?${query}`, {
        method: 'POST',
        json,
      });
      return `is in the trash as ${id}, kept until ${time(keepUntil)}`;
    },
  };
}

/** One after the other. Throws the first error when all were tried, and names the others. */
async function deleteVolumes(first: string, more: readonly string[], options: DeleteOptions): Promise<void> {
  const all = [first, ...more];
  for (const text of all) volumeReference(text);
  const which = all.length === 1 ? first : `these ${all.length} volumes: ${all.join(' ')}`;
  const { run } = deletion(options);
  // What goes into the trash comes back.
  if (!options.trash)
    await confirm(`Delete ${which}${options.deleteSnapshots ? ' and its snapshots' : ''}?`, options);
  const deleted: { deleted: string; words: string }[] = [];
  const errors: unknown[] = [];
  for (const text of all)
    try {
      deleted.push({ deleted: text, words: await run(volumePath(volumeReference(text))) });
    } catch (error) {
      if (errors.length > 0) process.stderr.write(`stowage: ${printable(toStowageError(error).message)}\n`);
      errors.push(error);
    }
  const words = (): string => deleted.map((each) => `${printable(each.deleted)} ${each.words}\n`).join('');
  if (deleted.length > 0) await show(all.length === 1 ? deleted[0] : deleted, words);
  if (errors.length > 0) throw errors[0];
}

type Warned = Volume & { warnings?: string[] };

export function volCommand(): Command {
  const vol = new Command('vol').description('volumes');
  vol
    .command('create <host/pool/vol>')
    .description("a new volume, by options or from libvirt's document")
    .option('--capacity <size>', 'such as 10G')
    .addOption(formatOption('container format; raw when not given'))
    .addOption(secretOption())
    .option('--preallocate', 'reserve the place now')
    .addOption(new Option('--ploop-version <number>', 'version of the ploop image').choices(['1', '2']))
    .addOption(
      new Option('--xml <file>', 'HOST/POOL is enough then; - reads standard input').conflicts([
        'capacity',
        'format',
        'preallocate',
        'ploopVersion',
        'secret',
      ]),
    )
    .action(async (text: string, options: CreateOptions) => {
      const { place, body } = await newVolume(text, options);
      const made = await callJson<Warned>(`${poolPath(place)}/volumes`, { method: 'POST', ...body });
      warn(made);
      await show(made, (volume) => told(`${place.host}/${place.pool}/${volume.name}`, volume));
    });
  vol.addCommand(volumeListCommand());
  vol
    .command('show <host/pool/vol>')
    .description('a volume, who works on it now, and which domains use it')
    .action(
      async (text: string) =>
        await show(await callJson<VolumeDetails>(volumePath(volumeReference(text))), describe),
    );
  vol
    .command('blockdev <host/pool/vol>')
    .description(
      "how QEMU on the host opens a volume, for -blockdev and blockdev-add; its secrets are the caller's to add",
    )
    .option('--node-name <name>', 'what QEMU shall call it')
    .action(async (text: string, { nodeName }: { nodeName?: string }) => {
      const query = nodeName === undefined ? '' : `?${new URLSearchParams({ nodeName })}`;
      const node = await callJson<object>(`${volumePath(volumeReference(text))}/blockdev${query}`);
      await show(node, JSON.stringify);
    });
  vol
    .command('map <host/pool/vol>')
    .description('make a raw volume a block device of its host, and print its node')
    .addOption(allowUsedOption())
    .action(async (text: string, options: { allowUsed?: boolean }) => {
      const path = `${volumePath(volumeReference(text))}/map${usedQuery(options)}`;
      const mapped = await callJson<MappedVolume>(path, { method: 'POST' });
      await show(mapped, ({ device }) => printable(device));
    });
  vol
    .command('unmap <host/pool/vol>')
    .description('take the block device of a volume away')
    .action(async (text: string) => {
      const path = `${volumePath(volumeReference(text))}/map`;
      const unmapped = await callJson<{ devices: string[] }>(path, { method: 'DELETE' });
      await show(unmapped, ({ devices }) =>
        devices.length > 0
          ? `${text} is not mapped any more: ${printable(devices.join(', '))}`
          : `${text} was not mapped`,
      );
    });
  vol
    .command('set-secret <host/pool/vol> <secret>')
    .description('open an encrypted volume with a secret of the kind volume, and from now on')
    .action(async (text: string, secret: string) => {
      const path = `${volumePath(volumeReference(text))}/secret`;
      const volume = await callJson<FleetVolume>(path, { method: 'PUT', json: { secret } });
      await show(volume, () => `${text} is opened with the secret ${printable(secret)}`);
    });
  vol
    .command('resize <host/pool/vol> <capacity>')
    .description('change the capacity: 20G is the new one, +5G so much more')
    .option('--shrink', 'allow a smaller capacity; what lies beyond it is lost')
    .addOption(yesOption())
    .addOption(allowUsedOption())
    .action(
      async (
        text: string,
        capacity: string,
        options: Confirmation & { shrink?: boolean; allowUsed?: boolean },
      ) => {
        const delta = capacity.startsWith('+');
        if (delta && options.shrink)
          throw new StowageError(
            'invalid-argument',
            '--shrink goes with the new capacity, not with a difference',
          );
        if (options.shrink) await confirm(`Cut ${text} off at ${capacity}?`, options);
        const capacityBytes = parseSize(delta ? capacity.slice(1) : capacity);
        const json = { capacityBytes, delta, shrink: Boolean(options.shrink) };
        const path = `${volumePath(volumeReference(text))}/resize${usedQuery(options)}`;
        const resized = await callJson<Warned>(path, { method: 'POST', json });
        warn(resized);
        await show(resized, (volume) => told(text, volume));
      },
    );
  vol
    .command('clone <host/pool/vol> <target>')
    .description('a full copy in the same pool; its name, or as HOST/POOL/NAME')
    .option('--linked', 'a clone that stands on its source, which is a base, and takes room for what differs')
    .option(
      '--snapshot <id>',
      'with --linked: it stands on this snapshot of its source, which need be no base',
    )
    .option('--no-wait', 'do not wait for the end')
    .action(
      async (
        text: string,
        target: string,
        options: { wait: boolean; linked?: boolean; snapshot?: string },
      ) => {
        const name = cloneName(text, target);
        const job = await callJson<Job>(`${volumePath(volumeReference(text))}/clone`, {
          method: 'POST',
          json: { name, linked: Boolean(options.linked), snapshot: options.snapshot },
        });
        await finish(
          job,
          options.wait,
          `${text} cloned to ${[...text.split('/').slice(0, 2), name].join('/')}`,
        );
      },
    );
  vol
    .command('wipe <host/pool/vol>')
    .description('overwrite all content')
    .addOption(new Option('--algorithm <algorithm>').choices(WIPE_ALGORITHMS).default('zero'))
    .addOption(allowUsedOption())
    .option('--no-wait', 'do not wait for the end')
    .addOption(yesOption())
    .action(
      async (
        text: string,
        options: Confirmation & { algorithm: string; wait: boolean; allowUsed?: boolean },
      ) => {
        await confirm(`Overwrite all content of ${text}?`, options);
        const job = await callJson<Job>(`${volumePath(volumeReference(text))}/wipe${usedQuery(options)}`, {
          method: 'POST',
          json: { algorithm: options.algorithm },
        });
        await finish(job, options.wait, `${text} wiped`);
      },
    );
  vol
    .command('check <host/pool/vol>')
    .description(
      'say what is wrong with a volume and what a repair would do; status 1 when it cannot be used so',
    )
    .action(async (text: string) => {
      const findings = await callJson<Finding[]>(`${volumePath(volumeReference(text))}/check`, {
        method: 'POST',
      });
      await show(findings, () => describeFindings(text, findings));
      if (findings.some(({ fatal }) => fatal)) process.exitCode = 1;
    });
  vol
    .command('repair <host/pool/vol>')
    .description('mend what can be mended: a lost ploop descriptor, tables, marks; see first what check says')
    .action(async (text: string) => {
      const path = volumePath(volumeReference(text));
      const mended = await callJson<Finding[]>(`${path}/repair`, { method: 'POST' });
      const left = await callJson<Finding[]>(`${path}/check`, { method: 'POST' });
      await show({ mended, left }, () =>
        mended.length === 0
          ? `${printable(text)} is sound`
          : describeFindings(text, left, `${printable(text)} mended`),
      );
      if (left.some(({ fatal }) => fatal)) process.exitCode = 1;
    });
  vol
    .command('delete <host/pool/vol> [more...]')
    .description('delete volumes; what cannot be deleted is named, the others are')
    .addOption(yesOption())
    .addOption(allowUsedOption())
    .option(
      '--delete-snapshots',
      'delete the snapshots in it too; a volume with snapshots is refused otherwise',
    )
    .addOption(
      new Option('--trash', 'keep them in the trash of the pool, with their snapshots').conflicts('wipe'),
    )
    .option('--keep <time>', 'with --trash: for so long at least, such as 12h or 30d (7d)')
    .addOption(freeingOptions.wipe())
    .addOption(freeingOptions.limit())
    .action(deleteVolumes);
  vol
    .command('upload <file> <host/pool/vol>')
    .description('send a local file; goes on where an interrupted upload stopped')
    .addOption(yesOption())
    .addOption(formatOption('container format of a new volume'))
    .addOption(
      new Option(
        '--source-format <format>',
        'the file is an image of this format: send what a guest sees of it',
      )
        .choices(SOURCE_FORMATS)
        .implies({ as: 'content' }),
    )
    .addOption(secretOption())
    .addOption(asOption())
    .addOption(allowUsedOption())
    .addOption(throughOption())
    .action(async (file: string, text: string, options: UploadOptions) => {
      const { uploadVolume } = await import('./transfers.ts');
      const { volume, replaced } = await uploadVolume(file, volumeReference(text), options);
      await show(volume, () => `${told(text, volume)}${replaced ? '; what it held before is replaced' : ''}`);
    });
  vol
    .command('download <host/pool/vol> <file>')
    .description(
      'fetch a volume into a file, or - for standard output; goes on where an interrupted download stopped',
    )
    .addOption(asOption())
    .addOption(snapshotOption().implies({ as: 'content' }))
    .option('--force', 'overwrite a file that is there')
    .addOption(throughOption())
    .action(async (text: string, file: string, options: DownloadOptions) => {
      const { downloadVolume } = await import('./transfers.ts');
      const done = await downloadVolume(volumeReference(text), file, options);
      const then = options.snapshot === undefined ? '' : `, as it was at ${printable(options.snapshot)}`;
      if (file !== '-') await show(done, () => `${text} downloaded${then}: ${formatBytes(done.sizeBytes)}`);
    });
  vol
    .command('dumpxml <host/pool/vol>')
    .description("the volume as libvirt's document")
    .action(async (reference: string) => {
      process.stdout.write(await callText(volumePath(volumeReference(reference)), { accept: XML_TYPE }));
    });
  for (const command of attributeCommands()) vol.addCommand(command);
  vol.addCommand(migrateCommand());
  vol.addCommand(copyCommand());
  vol.addCommand(snapshotCommand());
  return vol;
}

function describeFindings(
  volume: string,
  findings: Finding[],
  sound = `${printable(volume)} is sound`,
): string {
  if (findings.length === 0) return sound;
  return table(
    ['PROBLEM', 'DETAIL', 'REPAIR'],
    findings.map(({ problem, detail, repair }) => [problem, detail, repair ?? '-']),
  );
}
