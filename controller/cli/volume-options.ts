import { Option } from 'commander';

/** Options that several commands about volumes have. */
export const allowUsedOption = (): Option =>
  new Option('--allow-used', 'also while domains use it; goes on record');

export const usedQuery = ({ allowUsed }: { allowUsed?: boolean }): string =>
  allowUsed ? '?allowUsed=true' : '';

export const formatOption = (text: string): Option =>
  new Option('--format <format>', text).choices(['raw', 'qcow2', 'ploop']);
