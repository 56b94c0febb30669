import type { Readable } from 'node:stream';
import { z } from 'zod';
import {
  type Representation,
  representationSchema,
  type Volume,
  type VolumeFormat,
  volumeFormatSchema,
  volumeSchema,
} from '../../shared/conf/volume.ts';
import {
  type TransferSpec,
  type TransferStatus,
  transferSpecSchema,
  transferStatusSchema,
} from '../../shared/protocol/agent.ts';
import { EXTENTS_TYPE } from '../../shared/transfer/frames.ts';
import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { splitReference } from '../../shared/util/names.ts';
import type { Fleet } from '../hosts/fleet.ts';
import type { Inventory } from '../inventory/inventory.ts';
import type { Store } from '../store/open.ts';
import type { JobRow } from '../store/schema.ts';
import type { JobKind } from './job.ts';
import type { Leases } from './leases.ts';
import type { JobRunner } from './runner.ts';

/** Errors after which an upload does not go on. */
const FINAL: ReadonlySet<string> = new Set(['invalid-image', 'too-large', 'no-space']);
/** An upload that nobody continued for so long is given up, and its bytes with it. */
const IDLE_MS = 24 * 3600_000;

export const uploadParamsSchema = z.object({
  /** `host/pool/volume`. */
  volume: z.string(),
  format: volumeFormatSchema,
  representation: representationSchema,
  sizeBytes: z.number().int().positive(),
});
type UploadParams = z.infer<typeof uploadParamsSchema>;

/** Driven by its client, so it has no steps of its own; it shows up, holds its lease and is cancelled like any job. */
const upload: JobKind<UploadParams, never> = {
  kind: 'upload',
  params: uploadParamsSchema,
  leases: ({ volume }) => [{ volume, mode: 'write' }],
  steps: [],
};

export interface UploadTarget {
  host: string;
  pool: string;
  volume: string;
}

export interface UploadRequest {
  format?: VolumeFormat;
  representation: Representation;
  sizeBytes: number;
  /** Replace a volume also while domains use it. */
  allowUsed: boolean;
}

export interface UploadState {
  job: number;
  spec: TransferSpec;
  status: TransferStatus;
}

/** Uploads through the controller. Each is a job that stays until it is complete, cancelled or forgotten by its client. */
export class Uploads {
  readonly #store: Store;
  readonly #fleet: Fleet;
  readonly #inventory: Inventory;
  readonly #leases: Leases;
  readonly #jobs: JobRunner;

  constructor(parts: { store: Store; fleet: Fleet; inventory: Inventory; leases: Leases; jobs: JobRunner }) {
    this.#store = parts.store;
    this.#fleet = parts.fleet;
    this.#inventory = parts.inventory;
    this.#leases = parts.leases;
    this.#jobs = parts.jobs;
  }

  async #active(reference: string): Promise<JobRow | undefined> {
    const rows = await this.#store
      .selectFrom('jobs')
      .selectAll()
      .where('kind', '=', 'upload')
      .where('state', 'in', ['queued', 'running', 'waiting'])
      .execute();
    return rows.find((row) => (JSON.parse(row.params) as UploadParams).volume === reference);
  }

  /** The upload under way to a volume. Throws `transfer-not-found`. */
  async find({ host, pool, volume }: UploadTarget): Promise<UploadState> {
    const row = await this.#active(`${host}/${pool}/${volume}`);
    if (!row)
      throw new StowageError('transfer-not-found', `no upload to '${host}/${pool}/${volume}' is under way`);
    const spec = transferSpecSchema.parse(JSON.parse(row.notes));
    const agent = await this.#fleet.client(host);
    const status = await agent.json(transferStatusSchema, `/v1/transfers/${spec.id}`);
    return { job: row.id, spec, status };
  }

  /**
   * Begins an upload, or takes up the one that the same actor began with the same size and format. Throws
   * `volume-in-use`, naming who holds the volume, otherwise.
   */
  async begin(target: UploadTarget, request: UploadRequest, actor: string): Promise<UploadState> {
    const reference = `${target.host}/${target.pool}/${target.volume}`;
    const [existing] = await this.#inventory.volumes({ ...target, name: target.volume, limit: 1 });
    const format = request.format ?? (existing?.format as VolumeFormat | undefined) ?? 'raw';
    const params = {
      volume: reference,
      format,
      representation: request.representation,
      sizeBytes: request.sizeBytes,
    };
    const active = await this.#active(reference);
    if (active && active.created_by === actor && active.params === JSON.stringify(params)) {
      const spec = transferSpecSchema.parse(JSON.parse(active.notes));
      try {
        return await this.#open(active.id, target.host, spec);
      } catch (error) {
        // Committed in a call whose answer was lost: that upload is done, and this is a new one.
        if (!(error instanceof StowageError && error.code === 'job-state')) throw error;
        await this.#jobs.finish(active.id);
      }
    }
    const job = await this.#jobs.submit(upload, params, actor);
    const dense = format === 'ploop' && request.representation === 'image';
    const spec: TransferSpec = {
      id: clock.uuid(),
      pool: target.pool,
      volume: target.volume,
      format,
      representation: request.representation,
      parts: [{ name: dense ? 'root.hds' : '', sizeBytes: request.sizeBytes, dense }],
      capacityBytes:
        existing && existing.capacity_bytes > 0 && format !== 'ploop' ? existing.capacity_bytes : undefined,
      replace: existing !== undefined,
      allowUsed: request.allowUsed,
      formatAssumed: request.format === undefined,
      digest: 'gmac',
    };
    try {
      await this.#jobs.report(job.id, {
        state: 'running',
        notes: JSON.stringify(spec),
        total_bytes: request.sizeBytes,
      });
      return await this.#open(job.id, target.host, spec);
    } catch (error) {
      await this.#jobs.finish(job.id, error);
      throw error;
    }
  }

  async #open(job: number, host: string, spec: TransferSpec): Promise<UploadState> {
    const agent = await this.#fleet.client(host);
    const fence = await this.#leases.ofJob(job, `${host}/${spec.pool}/${spec.volume}`);
    const status = await agent.json(transferStatusSchema, '/v1/transfers', {
      method: 'POST',
      json: spec,
      fence,
    });
    return { job, spec, status };
  }

  /** Takes plain bytes from an offset. What arrived stays when the client goes away; the upload can go on later. */
  async receiveBytes(
    host: string,
    upload: UploadState,
    offset: number,
    body: Readable,
  ): Promise<TransferStatus> {
    if (offset > upload.status.contiguousBytes) {
      throw new StowageError(
        'upload-offset',
        `the upload goes on at byte ${upload.status.contiguousBytes}, not ${offset}`,
      );
    }
    return this.#receive(host, upload, `bytes?offset=${offset}`, {
      stream: body,
      type: 'application/octet-stream',
    });
  }

  receiveExtents(host: string, upload: UploadState, body: Readable): Promise<TransferStatus> {
    return this.#receive(host, upload, 'extents', { stream: body, type: EXTENTS_TYPE });
  }

  async #receive(
    host: string,
    upload: UploadState,
    path: string,
    body: { stream: Readable; type: string },
  ): Promise<TransferStatus> {
    const agent = await this.#fleet.client(host);
    const poll = clock.every(1000, () => void this.#showProgress(host, upload).catch(() => undefined));
    try {
      const status = await agent.json(transferStatusSchema, `/v1/transfers/${upload.spec.id}/${path}`, {
        method: 'PUT',
        body,
      });
      await this.#jobs.report(upload.job, { done_bytes: status.doneBytes });
      return status;
    } catch (error) {
      // Bytes that can never become a volume end the upload, and so does a full disk, which it would keep full; a cut line
      // does not.
      if (error instanceof StowageError && FINAL.has(error.code)) await this.cancel(host, upload, error);
      throw error;
    } finally {
      poll.stop();
    }
  }

  async #showProgress(host: string, upload: UploadState): Promise<void> {
    const agent = await this.#fleet.client(host);
    const status = await agent.json(transferStatusSchema, `/v1/transfers/${upload.spec.id}`);
    await this.#jobs.report(upload.job, { done_bytes: status.doneBytes });
  }

  /** Makes the complete upload the volume. After an error of the bytes themselves the upload is over. */
  async commit(host: string, upload: UploadState, digest: string | undefined): Promise<Volume> {
    const agent = await this.#fleet.client(host);
    const { spec } = upload;
    const fence = await this.#leases.ofJob(upload.job, `${host}/${spec.pool}/${spec.volume}`);
    try {
      const { volume } = await agent.json(
        z.object({ volume: volumeSchema }),
        `/v1/transfers/${spec.id}/commit`,
        {
          method: 'POST',
          json: { digest },
          fence,
          patient: true,
        },
      );
      await this.#inventory.shows(host, spec.pool, volume.name, volume.etag);
      await this.#jobs.finish(upload.job);
      return volume;
    } catch (error) {
      const passing =
        error instanceof StowageError &&
        ['host-unreachable', 'stream-cut', 'volume-in-use'].includes(error.code);
      if (!passing) await this.cancel(host, upload, error);
      throw error;
    }
  }

  /** Gives an upload up. Throws `job-state` when its volume is being put in place; a host that is away learns later. */
  async cancel(host: string, upload: Pick<UploadState, 'job' | 'spec'>, reason: unknown): Promise<void> {
    const agent = await this.#fleet.client(host);
    await agent.send(`/v1/transfers/${upload.spec.id}`, { method: 'DELETE' }).catch((error) => {
      if (error instanceof StowageError && error.code === 'job-state') throw error;
    });
    await this.#jobs.finish(upload.job, reason);
  }

  /** Cancels an upload by its job: also one whose host is away, or that was killed before it had begun. */
  async cancelJob(row: JobRow, reason: StowageError): Promise<void> {
    const spec = transferSpecSchema.safeParse(JSON.parse(row.notes)).data;
    const [host = ''] = splitReference((JSON.parse(row.params) as UploadParams).volume);
    if (spec) await this.cancel(host, { job: row.id, spec }, reason);
    else await this.#jobs.finish(row.id, reason);
  }

  /** At start: an upload that was killed before its transfer was recorded has nothing to go on with. */
  async dropUnbegun(): Promise<void> {
    const rows = await this.#store
      .selectFrom('jobs')
      .selectAll()
      .where('kind', '=', 'upload')
      .where('state', 'in', ['queued', 'running'])
      .where('notes', '=', '{}')
      .execute();
    for (const row of rows)
      await this.#jobs.finish(
        row.id,
        new StowageError('cancelled', 'the controller was stopped before the upload began'),
      );
  }

  async dropIdle(): Promise<void> {
    const rows = await this.#store
      .selectFrom('jobs')
      .selectAll()
      .where('kind', '=', 'upload')
      .where('state', 'in', ['queued', 'running'])
      .where('updated_at', '<', clock.now() - IDLE_MS)
      .execute();
    for (const row of rows)
      await this.#jobs.finish(row.id, new StowageError('cancelled', 'nobody continued the upload for a day'));
  }
}
