import { PassThrough } from 'node:stream';
import {
  layoutSchema,
  offerSchema,
  type PullRequest,
  pullProgressSchema,
  representationQuery,
  type SendRequest,
  sentSchema,
} from '../../shared/protocol/agent.ts';
import type { DirectDownload, DirectUpload } from '../../shared/protocol/api.ts';
import { readingQuery } from '../../shared/protocol/reading.ts';
import { BlockSignal } from '../../shared/util/abort.ts';
import { clock } from '../../shared/util/clock.ts';
import { fromProblem } from '../../shared/util/errors.ts';
import { agentVolumePath } from '../hosts/agent-client.ts';
import { readFirstLine, readLines } from '../hosts/answers.ts';
import { type ByteStream, defineAction } from './action.ts';
import { volumeAddress } from './addresses.ts';
import { passphraseToRead, readingWords, referenceOf } from './volume.ts';

const TICKET_MS = 24 * 3600_000;
/** A line that says nothing, so that a proxy does not take silence for the end. */
const ALIVE_MS = 10_000;
const SILENCE_MS = 30_000;

const newTicket = (): string => clock.randomBytes(32).toString('base64url');

/** JSON lines that end well or are cut, and say so to their reader. */
class Lines {
  readonly body = new PassThrough();

  write(line: unknown): void {
    if (this.body.writable) this.body.write(`${JSON.stringify(line)}\n`);
  }

  get answer(): ByteStream {
    return { body: this.body, contentType: 'application/x-ndjson' };
  }
}

const download = defineAction({
  name: 'volume.download-direct',
  summary: 'Lets the caller fetch a volume from its host itself, for as long as it reads the answer.',
  role: 'viewer',
  audited: true,
  input: volumeAddress.extend(representationQuery.shape),
  answer: 'bytes',
  record: (reading) => ({ detail: readingWords(reading) }),
  async run(services, { as, snapshot, ...address }, { principal, signal }) {
    const { fleet, leases } = services;
    const passphrase = await passphraseToRead(services, address, as, principal);
    const { host, pool, volume } = address;
    const agent = await fleet.client(host);
    const addresses = await fleet.addresses(host);
    const holder = `download by ${principal.name}`;
    const lease = await leases.acquire({ volume: referenceOf(address), mode: 'read', holder });
    const block = new BlockSignal(signal);
    const lines = new Lines();
    const transfer = clock.uuid();
    let ended: Promise<void> | undefined;
    /** Settles when the host has closed its door, and nothing holds the volume. */
    const end = (): Promise<void> => {
      ended ??= (async () => {
        alive.stop();
        await agent.send(`/v1/sends/${transfer}`, { method: 'DELETE' }).catch(() => undefined);
        block[Symbol.dispose]();
        await lease[Symbol.asyncDispose]();
      })();
      return ended;
    };
    const alive = clock.every(ALIVE_MS, () => lines.write({}));
    try {
      const path = `${agentVolumePath(address)}/layout?${readingQuery({ as, snapshot })}`;
      const layout = await agent.json(layoutSchema, path, {
        signal: block.signal,
        passphrase,
        patient: true,
      });
      const ticket = newTicket();
      const send: SendRequest = {
        ...{ transfer, pool, volume, ticket, representation: as, snapshot },
        expiresAt: clock.now() + TICKET_MS,
      };
      const door = await agent.stream('/v1/sends', {
        ...{ method: 'POST', json: send, passphrase, signal: block.signal },
      });
      // The agent ends its answer with the link, or when the volume cannot be read on.
      door.once('close', () => ended ?? lines.body.destroy());
      const first = await readFirstLine(door, (line) => {
        // Whoever reads the end of this may do with the volume what it likes.
        if (sentSchema.safeParse(line).success) void end().then(() => lines.body.end('{"sent":true}\n'));
      });
      const { port } = offerSchema.parse(first);
      lines.write({ transfer, ticket, addresses, port, layout } satisfies DirectDownload);
      lines.body.once('close', () => void end());
      return lines.answer;
    } catch (error) {
      await end();
      throw error;
    }
  },
});

const upload = defineAction({
  name: 'volume.upload-direct',
  summary:
    'Lets the caller of an upload send its bytes to the host itself; the answer is how far it has come.',
  role: 'operator',
  audited: true,
  input: volumeAddress,
  answer: 'bytes',
  plan: ({ uploads }, address) => uploads.find(address),
  record: (_input, { job }) => ({ detail: `job ${job}` }),
  async run({ fleet, uploads }, { host }, { signal }, found) {
    const { job, spec } = found;
    const agent = await fleet.client(host);
    const addresses = await fleet.addresses(host);
    const ticket = newTicket();
    const block = new BlockSignal(signal);
    const pull: PullRequest = { ticket, way: { kind: 'listen' } };
    const answer = await agent.stream(`/v1/transfers/${spec.id}/pull`, {
      method: 'POST',
      json: pull,
      signal: block.signal,
    });
    const lines = new Lines();
    lines.body.once('close', () => block[Symbol.dispose]());
    const pass = async (): Promise<void> => {
      let port: number | undefined;
      for await (const line of readLines(answer, SILENCE_MS)) {
        if (port === undefined) {
          port = offerSchema.parse(line).port;
          lines.write({ transfer: spec.id, ticket, addresses, port } satisfies DirectUpload);
          continue;
        }
        const progress = pullProgressSchema.parse(line);
        if (progress.error)
          await uploads.failed(host, found, fromProblem(progress.error, 'stream-cut', 'the host gave up'));
        lines.write(progress);
        uploads.progress(job, progress.doneBytes);
      }
      lines.body.end();
    };
    pass().catch((error) => lines.body.destroy(error));
    return lines.answer;
  },
});

export const directActions = [download, upload];
