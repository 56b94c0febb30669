import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { z } from 'zod';
import { pullProgressSchema } from '../../shared/protocol/agent.ts';
import { type DirectDownload, directDownloadSchema, directUploadSchema } from '../../shared/protocol/api.ts';
import type { DigestAlgorithm } from '../../shared/transfer/digest.ts';
import { Outgoing } from '../../shared/transfer/outgoing.ts';
import { type ChunkSink, pullVolume } from '../../shared/transfer/pull.ts';
import type { OpenedSource } from '../../shared/transfer/source.ts';
import { SourceServer } from '../../shared/transfer/source-server.ts';
import { ERRORS, type ErrorCode, isStowageError, StowageError } from '../../shared/util/errors.ts';
import { parseInput } from '../../shared/util/input.ts';
import { parseJson } from '../../shared/util/json.ts';
import { call } from './client.ts';

/** As many as a sink takes side by side. */
const CONNECTIONS = 3;
const DIAL_MS = 3000;
const TICKET_MS = 24 * 3600_000;
const GOODBYE_MS = 5000;

/** The lines of an answer that stays open as long as its request does. */
function linesOf(answer: IncomingMessage): AsyncIterator<string> {
  return createInterface({ input: answer, crlfDelay: Number.POSITIVE_INFINITY })[Symbol.asyncIterator]();
}

function parseLine<S extends z.ZodType>(schema: S, line: string): z.output<S> {
  return parseInput(schema, parseJson(line), 'stream-corrupt');
}

async function firstLine<S extends z.ZodType>(lines: AsyncIterator<string>, schema: S): Promise<z.output<S>> {
  const { done, value } = await lines.next();
  if (done) throw new StowageError('stream-cut', 'the controller ended its answer early');
  return parseLine(schema, value);
}

/** So the controller learns that all has arrived; whether it does is nothing to wait long for. */
async function readToEnd(lines: AsyncIterator<string>): Promise<void> {
  const read = async (): Promise<void> => {
    while (!(await lines.next()).done);
  };
  await Promise.race([read(), sleep(GOODBYE_MS, undefined, { ref: false })]).catch(() => undefined);
}

/** What the host says of an upload that it does not take. Something has moved: it is no reason for another way. */
function refusal({ code, detail }: { code: string; detail: string }): StowageError {
  if (code === 'host-unreachable' || !(code in ERRORS)) return new StowageError('stream-cut', detail);
  return new StowageError(code as ErrorCode, detail);
}

/** undefined when none of the addresses answers. */
async function dial(addresses: readonly string[], port: number): Promise<Socket | undefined> {
  for (const address of addresses) {
    const socket = connect({ host: address, port });
    try {
      await once(socket, 'connect', { signal: AbortSignal.timeout(DIAL_MS) });
      return socket.setNoDelay(true);
    } catch {
      socket.destroy();
    }
  }
  return undefined;
}

/**
 * Sends what is open to the host of an upload, past the controller, and gives the root digest over it; undefined, before
 * anything has moved, when the host cannot be reached from here.
 */
export async function uploadDirect(
  path: string,
  source: OpenedSource,
  digest: DigestAlgorithm,
  onProgress: (doneBytes: number, totalBytes: number) => void,
): Promise<string | undefined> {
  const answer = await call(`${path}/upload/direct`, { method: 'POST' });
  const lines = linesOf(answer);
  try {
    const { transfer, ticket, addresses, port } = await firstLine(lines, directUploadSchema);
    using server = new SourceServer({
      outgoing: new Outgoing(source, digest),
      ticket: { transfer, secret: ticket },
      expiresAt: Date.now() + TICKET_MS,
      onRefused: () => undefined,
    });
    const first = await dial(addresses, port);
    if (!first) return undefined;
    server.accept(first);
    for (let count = 1; count < CONNECTIONS; count++) {
      const more = await dial([first.remoteAddress ?? ''], port);
      if (!more) throw new StowageError('stream-cut', 'the host does not answer any more');
      server.accept(more);
    }
    for (;;) {
      const { done, value } = await lines.next();
      if (done)
        throw new StowageError(
          'stream-cut',
          'the controller ended its answer before the upload was complete',
        );
      const { doneBytes, totalBytes, digest: root, error } = parseLine(pullProgressSchema, value);
      if (error) throw refusal(error);
      if (totalBytes > 0) onProgress(doneBytes, totalBytes);
      if (root) {
        await readToEnd(lines);
        return root;
      }
    }
  } finally {
    answer.destroy();
  }
}

/**
 * Fetches a volume from its host, past the controller, into what `open` gives, knowing what the volume is. False, before
 * anything has moved, when the host cannot be reached from here.
 */
export async function downloadDirect(
  path: string,
  reading: string,
  open: (layout: DirectDownload['layout']) => Promise<ChunkSink>,
  onProgress: (doneBytes: number, totalBytes: number) => void,
): Promise<boolean> {
  const answer = await call(`${path}/download-direct?${reading}`, { method: 'POST' });
  const lines = linesOf(answer);
  // When the controller cuts the answer, the door is closed as well.
  answer.on('error', () => undefined);
  try {
    const { transfer, ticket, addresses, port, layout } = await firstLine(lines, directDownloadSchema);
    const sink = await open(layout);
    const pulled = await pullVolume(sink, {
      ticket: { transfer, secret: ticket },
      ...{ addresses, port },
      onProgress: ({ doneBytes, totalBytes }) => onProgress(doneBytes, totalBytes),
      signal: new AbortController().signal,
    }).catch((error) => {
      if (isStowageError(error, 'host-unreachable')) return undefined;
      throw error;
    });
    if (!pulled) return false;
    if (pulled.digest !== sink.digests.root() || pulled.etag !== layout.etag)
      throw new StowageError('digest-mismatch', 'what arrived is not what the host has sent');
    await readToEnd(lines);
    return true;
  } finally {
    answer.destroy();
  }
}
