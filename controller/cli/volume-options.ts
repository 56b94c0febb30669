import { Option } from 'commander';
import { VOLUME_FORMATS } from '../../shared/conf/image-formats.ts';

/** Options that several commands about volumes have. */
export const allowUsedOption = (): Option =>
  new Option('--allow-used', 'also while domains use it; goes on record');

export const usedQuery = ({ allowUsed }: { allowUsed?: boolean }): string =>
  allowUsed ? '?allowUsed=true' : '';

export const snapshotOption = (): Option =>
  new Option('--snapshot <id>', 'its content as it was at this snapshot, also while a guest uses it');

export const formatOption = (text: string): Option =>
  new Option('--format <format>', text).choices(VOLUME_FORMATS);

export const secretOption = (): Option =>
  new Option(
    '--secret <secret>',
    'encrypt it, luks or qcow2, with this secret of the kind volume: its id or usage',
  );
