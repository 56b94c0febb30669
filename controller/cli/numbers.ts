import { InvalidArgumentError } from 'commander';

/** A whole number from 1 on, such as a count or the number of a job. */
export function count(text: string): number {
  const value = Number(text);
  if (/^\d{1,15}$/.test(text) && value >= 1) return value;
  throw new InvalidArgumentError('It must be a whole number from 1 on.');
}
