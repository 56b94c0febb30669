import { z } from 'zod';
import { addressOf, bytesAt, textAt } from '../../host/native.ts';
import type { Space } from '../backend.ts';
import { arrayOf, cell, ceph, checked } from './librbd.ts';

export interface ClusterOptions {
  pool: string;
  namespace?: string;
  /** Without `client.`. */
  user?: string;
  /** `host:port`, or none where the host's configuration of Ceph tells. */
  monitors: readonly string[];
  /** For the client, as in its configuration. */
  options: readonly { name: string; value: string }[];
}

/** Longest that a request may take, in seconds: without an end it would wait for a cluster that is away for ever. */
const PATIENCE_S = '30';

const dfSchema = z.object({
  pools: z.array(
    z.object({
      id: z.number(),
      stats: z.object({ stored: z.number(), max_avail: z.number() }),
    }),
  ),
});

/** A connection to one pool of a cluster. */
export class Cluster implements AsyncDisposable {
  readonly #handle: bigint;
  /** The pool, as calls of librbd want it. */
  readonly io: bigint;
  /** Which pool of which cluster this is, whatever it is called. */
  readonly id: string;
  readonly #poolId: number;

  private constructor(handle: bigint, io: bigint, poolId: number, id: string) {
    this.#handle = handle;
    this.io = io;
    this.#poolId = poolId;
    this.id = id;
  }

  static async connect(options: ClusterOptions): Promise<Cluster> {
    const { pool, namespace = '', user = 'admin', monitors } = options;
    const rados = ceph();
    const handle = cell();
    checked(rados.create(handle.buffer, 'ceph', `client.${user}`, 0), 'rados_create');
    const cluster = handle.value;
    const set = (name: string, value: string): void =>
      void checked(rados.setConf(cluster, name, value), `the option ${name}`);
    try {
      // A host with several clusters has no such file, or that of another one: what is said here comes after it.
      rados.readConf(cluster, null);
      set('client_mount_timeout', PATIENCE_S);
      set('rados_mon_op_timeout', PATIENCE_S);
      set('rados_osd_op_timeout', PATIENCE_S);
      // So that a look sees each change, but for two within a second.
      set('rbd_mtime_update_interval', '1');
      if (monitors.length > 0) set('mon_host', monitors.join(','));
      for (const { name, value } of options.options) set(name, value);
      checked(await rados.connect(cluster), 'connecting to the cluster');
      const io = cell();
      checked(await rados.openPool(cluster, pool, io.buffer), `opening the pool '${pool}'`);
      if (namespace !== '') rados.setNamespace(io.value, namespace);
      const fsid = Buffer.alloc(64);
      checked(await rados.fsid(cluster, fsid, fsid.length), 'the id of the cluster');
      const poolId = Number(rados.poolId(io.value));
      const id = [fsid.toString('latin1').replace(/\0.*/s, ''), poolId, namespace].join('/');
      return new Cluster(cluster, io.value, poolId, id);
    } catch (error) {
      await rados.shutdown(cluster);
      throw error;
    }
  }

  /** Of the pool: what is stored, and what can be stored beside, as its replication allows. */
  async space(): Promise<Space> {
    const answer = dfSchema.parse(JSON.parse(await this.#ask({ prefix: 'df', format: 'json' })));
    const { stats } = answer.pools.find(({ id }) => id === this.#poolId) ?? {};
    const { stored = 0, max_avail: availableBytes = 0 } = stats ?? {};
    return { capacityBytes: stored + availableBytes, allocationBytes: stored, availableBytes };
  }

  /** Asks the monitors. */
  async #ask(command: Record<string, string>): Promise<string> {
    const text = Buffer.from(`${JSON.stringify(command)}\0`);
    const commands = cell();
    commands.buffer.writeBigUInt64LE(addressOf(text));
    const [output, length, status, statusLength] = [cell(), cell(), cell(), cell()];
    const result = await ceph().monCommand(
      this.#handle,
      commands.buffer,
      1,
      null,
      0,
      output.buffer,
      length.buffer,
      status.buffer,
      statusLength.buffer,
    );
    try {
      // `text` is used until here, and so it lies where it lay.
      checked(result, `the command ${JSON.parse(text.toString('utf8', 0, text.length - 1)).prefix}`);
      return bytesAt(output.value, Number(length.value)).toString('utf8');
    } finally {
      for (const { value } of [output, status]) if (value !== 0n) ceph().freeBuffer(value);
    }
  }

  /** All images of the pool: names and ids. */
  list(): Promise<{ name: string; id: string }[]> {
    return arrayOf(
      'listing images',
      16,
      (entries, count) => ceph().list(this.io, entries, count),
      (entries, offset) => ({ id: textAt(entries, offset), name: textAt(entries, offset + 8) }),
      (entries, count) => ceph().freeList(entries, count),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    ceph().closePool(this.io);
    await ceph().shutdown(this.#handle);
  }
}
