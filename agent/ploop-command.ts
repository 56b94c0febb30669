import { Command, Option } from 'commander';
import { StowageError } from '../shared/util/errors.ts';
import { formatBytes, parseSize } from '../shared/util/units.ts';
import { checkVolume } from './formats/ploop/check.ts';
import { convertVolume } from './formats/ploop/convert.ts';
import { createVolume, restoreDescriptor } from './formats/ploop/create.ts';
import { growVolume } from './formats/ploop/grow.ts';
import { volumeInfo } from './formats/ploop/info.ts';
import {
  createSnapshot,
  deleteSnapshot,
  flatten,
  mergeTop,
  normaliseGuid,
  switchSnapshot,
} from './formats/ploop/snapshot.ts';

const layout = () =>
  new Option('--layout <layout>', 'how the image is laid out').choices(['expanded', 'preallocated', 'raw']);
const version = () =>
  new Option('--image-version <number>', 'version of the image format').choices(['1', '2']);
const asVersion = (text: string | undefined): 1 | 2 | undefined =>
  text === undefined ? undefined : text === '1' ? 1 : 2;
const print = (value: unknown): void => console.log(JSON.stringify(value, null, 2));

/** `stowage-agent ploop …`: the ploop engine on one directory, without any controller, tool or kernel module. */
export function ploopCommand(): Command {
  const ploop = new Command('ploop').description('work on a ploop volume directory');

  ploop
    .command('create <dir>')
    .description('create an empty volume')
    .requiredOption('--capacity <size>', 'such as 10G; rounded up to whole clusters')
    .option('--cluster <size>', 'cluster size, 32K to 64M', '1M')
    .addOption(layout().default('expanded'))
    .addOption(version().default('2'))
    .action(async (dir: string, options) => {
      await createVolume(dir, {
        capacityBytes: parseSize(options.capacity),
        clusterSectors: parseSize(options.cluster) / 512,
        layout: options.layout,
        version: asVersion(options.imageVersion),
      });
    });

  ploop
    .command('info <dir>')
    .description('show capacity, allocation and snapshots')
    .option('--json', 'for programs')
    .action(async (dir: string, options) => {
      const info = await volumeInfo(dir);
      if (options.json) return print(info);
      console.log(`capacity    ${formatBytes(info.capacityBytes)} (${info.capacityBytes} bytes)`);
      console.log(`allocation  ${formatBytes(info.allocationBytes)} (${info.allocationBytes} bytes)`);
      console.log(
        `format      ${info.layout === 'raw' ? 'raw' : `version ${info.version}, ${info.layout}`}, clusters of ${formatBytes(info.clusterBytes)}`,
      );
      console.log(`in use      ${info.inUse ? 'yes' : 'no'}`);
      for (const snapshot of info.snapshots) {
        const marks = [snapshot.current ? 'current' : '', snapshot.temporary ? 'temporary' : '']
          .filter(Boolean)
          .join(', ');
        console.log(
          `${snapshot.current ? '*' : ' '} ${snapshot.guid}  ${formatBytes(snapshot.allocationBytes).padStart(10)}  ${snapshot.file}${marks ? `  (${marks})` : ''}`,
        );
      }
    });

  ploop
    .command('check <dir>')
    .description('check the images; exit status 1 when something is wrong')
    .option('--repair', 'mend what can be mended')
    .option('--json', 'for programs')
    .action(async (dir: string, options) => {
      const findings = await checkVolume(dir, { repair: Boolean(options.repair) });
      if (options.json) print(findings);
      else if (findings.length === 0) console.log('clean');
      else
        for (const { file, problem, detail, fatal, repaired } of findings)
          console.log(
            `${file}: ${problem}: ${detail}${repaired ? ' (repaired)' : fatal ? ' (must be repaired)' : ''}`,
          );
      if (findings.some((finding) => finding.fatal && !finding.repaired)) process.exitCode = 1;
    });

  ploop
    .command('grow <dir>')
    .description('grow a volume')
    .requiredOption('--capacity <size>', 'the new capacity')
    .action(async (dir: string, options) => growVolume(dir, parseSize(options.capacity)));

  const snapshot = ploop.command('snapshot').description('create, list, switch to or delete a snapshot');
  snapshot
    .command('create <dir>')
    .option('--guid <guid>', 'default: a new random one')
    .action(async (dir: string, options) =>
      console.log(await createSnapshot(dir, options.guid && normaliseGuid(options.guid))),
    );
  snapshot.command('list <dir>').action(async (dir: string) => print((await volumeInfo(dir)).snapshots));
  snapshot
    .command('switch <dir> <guid>')
    .description('throw the current state away and continue from the snapshot')
    .action(async (dir: string, guid: string) => switchSnapshot(dir, normaliseGuid(guid)));
  snapshot
    .command('delete <dir> <guid>')
    .action(async (dir: string, guid: string) => console.log(await deleteSnapshot(dir, normaliseGuid(guid))));

  ploop
    .command('merge <dir>')
    .description('merge the current state into its snapshot')
    .option('--all', 'merge the whole chain into one image')
    .action(async (dir: string, options) => (options.all ? flatten(dir) : mergeTop(dir)));

  ploop
    .command('convert <dir>')
    .description('convert between layouts and versions')
    .addOption(layout())
    .addOption(version())
    .action(async (dir: string, options) => {
      if (!options.layout && !options.imageVersion)
        throw new StowageError('invalid-argument', 'say --layout or --image-version');
      await convertVolume(dir, { layout: options.layout, version: asVersion(options.imageVersion) });
    });

  ploop
    .command('restore <dir>')
    .description('write DiskDescriptor.xml anew from root.hds')
    .option('--raw', 'root.hds is a raw image')
    .action(async (dir: string, options) => restoreDescriptor(dir, { raw: Boolean(options.raw) }));

  return ploop;
}
