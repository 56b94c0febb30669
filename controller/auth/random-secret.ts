import { createHash } from 'node:crypto';
import { clock } from '../../shared/util/clock.ts';

/** 256 random bits: a plain hash of it is enough, there is nothing to guess. */
export const newSecret = (): string => clock.randomBytes(32).toString('base64url');

/** What is kept of a random secret. */
export const hashOf = (secret: string): string => createHash('sha256').update(secret).digest('hex');
