import { z } from 'zod';
import { StowageError } from '../../../shared/util/errors.ts';
import { bytesAt, textAt, writeAddress } from '../../host/native.ts';
import { NativeHandle } from '../../host/native-handle.ts';
import type { Space } from '../backend.ts';
import { ceph, checked, isAbsent } from './librbd.ts';
import { arrayOf, cell, textOf } from './memory.ts';

export interface ClusterOptions {
  pool: string;
  namespace?: string;
  /** Without `client.`. */
  user?: string;
  /** Gives its key; absent where a keyring of the host has it. */
  key?(): string;
  /** `host:port`, or none where the host's configuration of Ceph tells. */
  monitors: readonly string[];
  /** For the client, as in its configuration. */
  options: readonly { name: string; value: string }[];
}

/** Longest that a request may take, in seconds: without an end it would wait for a cluster that is away for ever. */
const PATIENCE_S = '30';
const NAME_BYTES = 4096;

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
  readonly #handle: NativeHandle;
  readonly #pool: NativeHandle;
  readonly #poolId: number;
  readonly #namespace: string;
  /** What is open in the pool: closed with the connection. */
  readonly #opened = new Set<NativeHandle>();
  /** Which pool of which cluster this is, whatever it is called. */
  readonly id: string;

  private constructor(handle: bigint, pool: bigint, namespace: string, fsid: string) {
    this.#handle = new NativeHandle(handle, ceph().shutdown);
    this.#pool = new NativeHandle(pool, async (address) => ceph().closePool(address));
    this.#poolId = ceph().poolId(pool);
    this.#namespace = namespace;
    this.id = [fsid, this.#poolId, namespace].join('/');
  }

  /** Throws `pool-inaccessible` where nobody answers, or no such pool or namespace is there. */
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
      if (options.key) set('key', options.key());
      checked(await rados.connect(cluster), 'connecting to the cluster');
      const io = cell();
      const opened = await rados.openPool(cluster, pool, io.buffer);
      if (isAbsent(opened))
        throw new StowageError('pool-inaccessible', `there is no pool '${pool}' in the cluster`);
      checked(opened, `opening the pool '${pool}'`);
      if (namespace !== '') rados.setNamespace(io.value, namespace);
      const fsid = Buffer.alloc(64);
      checked(await rados.fsid(cluster, fsid, fsid.length), 'the id of the cluster');
      return new Cluster(cluster, io.value, namespace, textOf(fsid));
    } catch (error) {
      await rados.shutdown(cluster);
      throw error;
    }
  }

  /** Runs what works in the pool. */
  use<T>(work: (io: bigint) => Promise<T>): Promise<T> {
    return this.#pool.use(work);
  }

  /** What `open` opens in the pool, and `free` closes. */
  async open(
    open: (io: bigint) => Promise<bigint>,
    free: (address: bigint) => Promise<unknown>,
  ): Promise<NativeHandle> {
    const address = await this.use(open);
    const handle: NativeHandle = new NativeHandle(address, async (each) => {
      this.#opened.delete(handle);
      await free(each);
    });
    this.#opened.add(handle);
    // The connection may have been closed while it was being opened.
    if (this.#pool.isClosed) await handle.close();
    return handle;
  }

  /** Throws `pool-inaccessible` when the pool, or the namespace in it, is not there any more. */
  async #requirePool(): Promise<void> {
    const name = Buffer.alloc(NAME_BYTES);
    const found = await this.#handle.use(async (cluster) =>
      ceph().poolName(cluster, this.#poolId, name, name.length),
    );
    if (isAbsent(found)) throw new StowageError('pool-inaccessible', 'the cluster has no such pool any more');
    checked(found, 'looking for the pool');
    if (this.#namespace === '') return;
    const exists = Buffer.alloc(1);
    checked(
      await this.use((io) => ceph().hasNamespace(io, this.#namespace, exists)),
      'looking for the namespace',
    );
    if (exists[0] === 0)
      throw new StowageError('pool-inaccessible', `the pool has no namespace '${this.#namespace}'`);
  }

  /** Of the pool: what is stored, and what can be stored beside, as its replication allows. */
  async space(): Promise<Space> {
    await this.#requirePool();
    const answer = dfSchema.parse(JSON.parse(await this.#ask('df')));
    // Of a pool that was just made the monitors know no sizes yet.
    const { stats } = answer.pools.find(({ id }) => id === this.#poolId) ?? {};
    const { stored = 0, max_avail: availableBytes = 0 } = stats ?? {};
    return { capacityBytes: stored + availableBytes, allocationBytes: stored, availableBytes };
  }

  /** Asks the monitors. */
  async #ask(prefix: string): Promise<string> {
    const command = Buffer.from(`${JSON.stringify({ prefix, format: 'json' })}\0`);
    const commands = cell();
    writeAddress(commands.buffer, 0, command);
    const [output, length, status, statusLength] = [cell(), cell(), cell(), cell()];
    const result = await this.#handle.use((cluster) =>
      ceph().monCommand(
        cluster,
        commands.buffer,
        1,
        null,
        0,
        output.buffer,
        length.buffer,
        status.buffer,
        statusLength.buffer,
      ),
    );
    try {
      checked(result, `the command ${prefix}`);
      return bytesAt(output.value, Number(length.value)).toString('utf8');
    } finally {
      for (const { value } of [output, status]) if (value !== 0n) ceph().freeBuffer(value);
    }
  }

  /** All images that the pool's directory names. */
  async list(): Promise<{ name: string; id: string }[]> {
    await this.#requirePool();
    return arrayOf({
      what: 'listing images',
      entryBytes: 16,
      call: (entries, count) => this.use((io) => ceph().list(io, entries, count)),
      read: (entries, offset) => ({ id: textAt(entries, offset), name: textAt(entries, offset + 8) }),
      free: (entries, count) => ceph().freeList(entries, count),
      countIn: 'memory',
    });
  }

  /** The id of the image that the pool's directory names so; undefined where it names none. At the cost of one request. */
  async idOf(name: string): Promise<string | undefined> {
    // Texts are encoded as their length and their bytes.
    const text = Buffer.from(name);
    const input = Buffer.alloc(4 + text.length);
    input.writeUInt32LE(text.length);
    text.copy(input, 4);
    const output = Buffer.alloc(NAME_BYTES);
    const result = await this.use((io) =>
      ceph().execute(io, 'rbd_directory', 'rbd', 'dir_get_id', input, input.length, output, output.length),
    );
    if (isAbsent(result)) {
      await this.#requirePool();
      return undefined;
    }
    checked(result, `looking for the image '${name}'`);
    return output.toString('utf8', 4, 4 + output.readUInt32LE());
  }

  /** After what runs. Repeatable. */
  async [Symbol.asyncDispose](): Promise<void> {
    const pool = this.#pool.close();
    await Promise.all([...this.#opened].map((handle) => handle.close()));
    await pool;
    await this.#handle.close();
  }
}
