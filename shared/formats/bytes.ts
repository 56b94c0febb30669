import type { Source } from '../transfer/source.ts';

/** What an image is read from: a file, a device, or what a server gives out. */
export type Bytes = Pick<Source, 'sizeBytes' | 'read'>;
