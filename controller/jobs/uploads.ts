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
import type { Upload } from '../../shared/protocol/api.ts';
import { EXTENTS_TYPE } from '../../shared/transfer/frames.ts';
import { clock } from '../../shared/util/clock.ts';
import { isStowageError, StowageError } from '../../shared/util/errors.ts';
import { splitReference } from '../../shared/util/references.ts';
import type { Fleet } from '../hosts/fleet.ts';
import type { Inventory, VolumePlace } from '../inventory/inventory.ts';
import { encryptionFor, type Passphrases } from '../secrets/passphrases.ts';
import type { Store } from '../store/store.ts';
import type { JobKind } from './job.ts';
import type { Leases } from './leases.ts';
import type { JobRunner } from './runner.ts';

/** Errors after which an upload does not go on. */
const FINAL: ReadonlySet<string> = new Set(['invalid-image', 'too-large', 'no-space']);
/** An upload that nobody continued for so long is given up, and its bytes with it. */
const IDLE_MS = 24 * 3600_000;
/** What keeps an upload from being encrypted now. */
const WITHOUT_SECRET = ['secret-not-found', 'secret-missing', 'forbidden'] as const;
/** Between two tries to note that one is done. */
const AGAIN_MS = 2000;

const uploadParamsSchema = z.object({
  /** `host/pool/volume`. */
  volume: z.string(),
  format: volumeFormatSchema,
  representation: representationSchema,
  sizeBytes: z.number().int().positive(),
  /** Id of the secret that it is encrypted with. */
  secret: z.guid().optional(),
});
type UploadParams = z.infer<typeof uploadParamsSchema>;

/** Driven by its client, so it has no steps of its own; it shows up, holds its lease and is cancelled like any job. */
const upload: JobKind<UploadParams, never> = {
  kind: 'upload',
  params: uploadParamsSchema,
  places: ({ volume }) => ({ target: volume }),
  leases: ({ volume }) => [{ volume, mode: 'write' }],
  steps: [],
};

export interface UploadRequest {
  format?: VolumeFormat;
  representation: Representation;
  /** Nobody said which format what is sent has: what looks like a container is refused. */
  formatAssumed: boolean;
  sizeBytes: number;
  /** Id of the secret that the volume is, or is to be, encrypted with. */
  secret?: string;
  /** Replace a volume also while domains use it. */
  allowUsed: boolean;
  /** It must not take the place of a volume. */
  onlyNew: boolean;
}

/** Uploads through the controller. Each is a job that stays until it is complete, cancelled or forgotten by its client. */
export class Uploads {
  readonly #store: Store;
  readonly #fleet: Fleet;
  readonly #inventory: Inventory;
  readonly #leases: Leases;
  readonly #jobs: JobRunner;
  readonly #passphrases: Passphrases;
  readonly #owner: string;
  /** When progress of an upload was noted last. */
  readonly #told = new Map<number, number>();

  constructor(parts: {
    store: Store;
    fleet: Fleet;
    inventory: Inventory;
    leases: Leases;
    jobs: JobRunner;
    passphrases: Passphrases;
    owner: string;
  }) {
    this.#owner = parts.owner;
    this.#passphrases = parts.passphrases;
    this.#store = parts.store;
    this.#fleet = parts.fleet;
    this.#inventory = parts.inventory;
    this.#leases = parts.leases;
    this.#jobs = parts.jobs;
  }

  /** The upload under way to a volume. Throws `transfer-not-found`. */
  async find({ host, pool, volume }: VolumePlace): Promise<Upload> {
    const row = await this.#store.jobs.uploadTo(`${host}/${pool}/${volume}`);
    // One that is just being begun has no notes yet.
    if (!row || Object.keys(row.notes ?? {}).length === 0)
      throw new StowageError('transfer-not-found', `no upload to '${host}/${pool}/${volume}' is under way`);
    const spec = transferSpecSchema.parse(row.notes);
    const agent = await this.#fleet.client(host);
    const status = await agent.json(transferStatusSchema, `/v1/transfers/${spec.id}`);
    return { job: row.id, spec, status };
  }

  /**
   * Begins an upload, or takes up the one that the same actor began with the same size and format. Throws
   * `volume-in-use`, naming who holds the volume, otherwise.
   */
  async begin(target: VolumePlace, request: UploadRequest, actor: string): Promise<Upload> {
    const reference = `${target.host}/${target.pool}/${target.volume}`;
    const existing = await this.#inventory.find(target);
    if (existing && request.onlyNew)
      throw new StowageError('volume-exists', `there is a volume '${reference}' already`);
    const format = request.format ?? (existing?.format as VolumeFormat | undefined) ?? 'raw';
    const params = {
      volume: reference,
      format,
      representation: request.representation,
      sizeBytes: request.sizeBytes,
      secret: request.secret,
    };
    const active = await this.#store.jobs.uploadTo(reference);
    if (active && active.createdBy === actor && JSON.stringify(active.params) === JSON.stringify(params)) {
      const spec = transferSpecSchema.parse(active.notes);
      if (spec.allowUsed !== request.allowUsed)
        throw new StowageError(
          'volume-in-use',
          `job ${active.id} uploads to it ${spec.allowUsed ? 'over what domains use' : 'only while no domain uses it'}; go on so, or cancel it`,
        );
      try {
        return await this.#open(active.id, target.host, spec);
      } catch (error) {
        // Committed in a call whose answer was lost: that upload is done, and this is a new one.
        if (!(error instanceof StowageError && error.code === 'job-state')) throw error;
        await this.#end(active.id);
      }
    }
    const dense = format === 'ploop' && request.representation === 'image';
    const spec: TransferSpec = {
      id: clock.uuid(),
      pool: target.pool,
      volume: target.volume,
      format,
      representation: request.representation,
      parts: [{ name: dense ? 'root.hds' : '', sizeBytes: request.sizeBytes, dense }],
      capacityBytes:
        existing && existing.capacityBytes > 0 && format !== 'ploop' ? existing.capacityBytes : undefined,
      replace: existing !== undefined,
      allowUsed: request.allowUsed,
      encryption: encryptionFor(format, request.secret, existing),
      formatAssumed: request.formatAssumed,
      digest: 'gmac',
    };
    // What is refused at once becomes no job.
    const agent = await this.#fleet.client(target.host);
    await agent.send('/v1/transfers/check', { method: 'POST', json: spec });
    await this.#passphrase(target.host, spec);
    const job = await this.#jobs.submit(upload, params, actor);
    try {
      await this.#jobs.report(job.id, {
        state: 'running',
        notes: spec,
        totalBytes: request.sizeBytes,
      });
      return await this.#open(job.id, target.host, spec);
    } catch (error) {
      await this.#end(job.id, error);
      throw error;
    }
  }

  /** Throws `fence-stale` when the upload has been ended, and its volume may be another's. */
  async #fence(job: number, host: string, { pool, volume }: TransferSpec): Promise<number> {
    const token = await this.#leases.ofJob(job, `${host}/${pool}/${volume}`);
    if (token === undefined)
      throw new StowageError('fence-stale', `the upload, job ${job}, has ended; begin it again`);
    return token;
  }

  async #open(job: number, host: string, spec: TransferSpec): Promise<Upload> {
    const agent = await this.#fleet.client(host);
    const fence = await this.#fence(job, host, spec);
    // What it cannot be encrypted with at its end is told before the first byte.
    await this.#passphrase(host, spec);
    const status = await agent.json(transferStatusSchema, '/v1/transfers', {
      method: 'POST',
      json: spec,
      fence,
    });
    return { job, spec, status };
  }

  /** Takes plain bytes from an offset. What arrived stays when the client goes away; the upload can go on later. */
  async receiveBytes(host: string, upload: Upload, offset: number, body: Readable): Promise<TransferStatus> {
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

  receiveExtents(host: string, upload: Upload, body: Readable): Promise<TransferStatus> {
    return this.#receive(host, upload, 'extents', { stream: body, type: EXTENTS_TYPE });
  }

  async #receive(
    host: string,
    upload: Upload,
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
      await this.#jobs.report(upload.job, { doneBytes: status.doneBytes });
      return status;
    } catch (error) {
      await this.failed(host, upload, error);
      throw error;
    } finally {
      poll.stop();
    }
  }

  #end(job: number, reason?: unknown): Promise<void> {
    this.#told.delete(job);
    return this.#jobs.finish(job, reason);
  }

  /** Notes how far an upload has come that does not pass through here; at most once a second. */
  progress(job: number, doneBytes: number): void {
    const now = clock.monotonicMs();
    if (now - (this.#told.get(job) ?? Number.NEGATIVE_INFINITY) < 1000) return;
    this.#told.set(job, now);
    void this.#jobs.report(job, { doneBytes }).catch(() => undefined);
  }

  /**
   * What went wrong while bytes arrived. Bytes that can never become a volume end the upload, and so does a full disk, which it
   * would keep full; a cut line does not.
   */
  async failed(host: string, upload: Upload, error: unknown): Promise<void> {
    if (error instanceof StowageError && FINAL.has(error.code)) await this.cancel(host, upload, error);
  }

  async #showProgress(host: string, upload: Upload): Promise<void> {
    const agent = await this.#fleet.client(host);
    const status = await agent.json(transferStatusSchema, `/v1/transfers/${upload.spec.id}`);
    await this.#jobs.report(upload.job, { doneBytes: status.doneBytes });
  }

  /** Makes the complete upload the volume. After an error of the bytes themselves the upload is over. */
  async commit(host: string, upload: Upload, digest: string | undefined): Promise<Volume> {
    const volume = await this.#commit(host, upload, digest);
    // From here on it is the volume, whatever can be noted of that now.
    const { pool } = upload.spec;
    await this.#inventory.shows({ host, pool, volume: volume.name }, volume).catch(() => undefined);
    await this.#done(upload.job);
    return volume;
  }

  /** Notes that an upload is done; when that cannot be, tries again later. */
  async #done(job: number): Promise<void> {
    await this.#end(job).catch((error) => {
      if (isStowageError(error, 'job-state')) return;
      clock.after(AGAIN_MS, () => void this.#done(job), false);
    });
  }

  async #commit(host: string, upload: Upload, digest: string | undefined): Promise<Volume> {
    const agent = await this.#fleet.client(host);
    const { spec } = upload;
    try {
      const fence = await this.#fence(upload.job, host, spec);
      const { volume } = await agent.json(
        z.object({ volume: volumeSchema }),
        `/v1/transfers/${spec.id}/commit`,
        {
          method: 'POST',
          json: { digest },
          fence,
          passphrase: await this.#passphrase(host, spec),
          patient: true,
        },
      );
      return volume;
    } catch (error) {
      const passing =
        // With its secret it can be put in place later.
        isStowageError(error, 'host-unreachable', 'stream-cut', 'volume-in-use', ...WITHOUT_SECRET);
      if (!passing) await this.cancel(host, upload, error);
      throw error;
    }
  }

  /** What content is encrypted with at its end. */
  async #passphrase(host: string, { pool, volume, representation, encryption }: TransferSpec) {
    if (representation === 'image') return undefined;
    return this.#passphrases.toMake(encryption, `${host}/${pool}/${volume}`);
  }

  /** Gives an upload up. Throws `job-state` when its volume is being put in place; a host that is away learns later. */
  async cancel(host: string, upload: Pick<Upload, 'job' | 'spec'>, reason: unknown): Promise<void> {
    const agent = await this.#fleet.client(host);
    await agent.send(`/v1/transfers/${upload.spec.id}`, { method: 'DELETE' }).catch((error) => {
      if (error instanceof StowageError && error.code === 'job-state') throw error;
    });
    await this.#end(upload.job, reason);
  }

  /** Cancels an upload by its job: also one whose host is away, or that was killed before it had begun. */
  async cancelJob(id: number, reason: StowageError): Promise<void> {
    const job = await this.#store.jobs.find(id);
    const spec = transferSpecSchema.safeParse(job?.notes).data;
    const [host = ''] = splitReference(job?.target ?? '');
    if (spec) await this.cancel(host, { job: id, spec }, reason);
    else await this.#end(id, reason);
  }

  /** At start: an upload that was killed before its transfer was recorded has nothing to go on with. */
  async dropUnbegun(): Promise<void> {
    const rows = (await this.#store.jobs.unended('upload')).filter(
      ({ notes, owner }) => Object.keys(notes).length === 0 && owner === this.#owner,
    );
    for (const row of rows)
      await this.#end(
        row.id,
        new StowageError('cancelled', 'the controller was stopped before the upload began'),
      );
  }

  /** Gives up the uploads that nobody has continued for a day, and their bytes with them. */
  async dropIdle(): Promise<void> {
    for (const { id } of await this.#store.jobs.uploadsUntouchedSince(clock.now() - IDLE_MS))
      await this.cancelJob(id, new StowageError('cancelled', 'nobody continued the upload for a day')).catch(
        // It is being put in place, or was continued.
        () => undefined,
      );
  }
}
