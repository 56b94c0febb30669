import { formatDisk, parseDisk } from '../../shared/conf/disk/disk.ts';
import { checkDisk } from '../../shared/conf/disk/rules.ts';
import { checkDomain } from '../../shared/conf/domain-rules.ts';
import { formatDomain, parseDomain } from '../../shared/conf/domain-xml.ts';
import { formatPool, parsePool } from '../../shared/conf/pool-xml.ts';
import { formatVolume, parseVolume } from '../../shared/conf/volume-xml.ts';
import { readDocument } from './read-document.ts';

export interface XmlOptions {
  /** The document of the pool that a volume is in. */
  pool?: string;
  capacity?: 'optional';
  /** The form of a domain that does not run. */
  inactive?: boolean;
}

/** Kinds of documents, each with how it is read and written again in libvirt's canonical form. */
export const KINDS: Record<string, (document: string, options: XmlOptions) => string | Promise<string>> = {
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
