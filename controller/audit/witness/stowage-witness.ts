#!/usr/bin/env node

// A witness for audit trails, on a machine that nobody who works with their controllers can change: it remembers up to where it has seen each
// trail, and signs only what goes on from there (C2SP tlog-witness). It needs Node 24 and the directory `controller/audit`, and no more.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { parseArgs } from 'node:util';
import { noteKey } from '../stowage-verify.ts';
import { type Reply, WitnessMemory } from './memory.ts';

const LONGEST_REQUEST = 64 << 10;
const REQUEST_MS = 10_000;

async function bodyOf(request: IncomingMessage): Promise<string | undefined> {
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const piece of request as AsyncIterable<Buffer>) {
    length += piece.length;
    if (length > LONGEST_REQUEST) return undefined;
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString();
}

async function replyTo(memory: WitnessMemory, request: IncomingMessage): Promise<Reply> {
  if (request.method !== 'POST' || !request.url?.endsWith('/add-checkpoint'))
    return { status: 404, text: 'only POST …/add-checkpoint\n' };
  const body = await bodyOf(request);
  return body === undefined ? { status: 413, text: 'it is too long\n' } : memory.add(body);
}

/** Serves a witness over HTTP; what it signs needs no TLS. */
export function witnessServer(memory: WitnessMemory): Server {
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const reply = await replyTo(memory, request).catch((error: Error) => {
      console.error(`stowage-witness: ${error.message}`);
      return { status: 500, text: 'it cannot be remembered\n', type: undefined };
    });
    response.writeHead(reply.status, { 'content-type': reply.type ?? 'text/plain; charset=utf-8' });
    response.end(reply.text);
  };
  return createServer({ requestTimeout: REQUEST_MS }, (request, response) => void answer(request, response));
}

const USAGE =
  'usage: stowage-witness --name NAME --log KEY [--log KEY]... [--data DIRECTORY] [--listen HOST:PORT]';

function main(): void {
  const { values } = parseArgs({
    options: {
      name: { type: 'string' },
      log: { type: 'string', multiple: true },
      data: { type: 'string', default: 'witness' },
      listen: { type: 'string', default: '127.0.0.1:7080' },
    },
  });
  const [, host, port] = /^\[?(.+?)\]?:(\d{1,5})$/.exec(values.listen) ?? [];
  if (values.name === undefined || !/^[^+\s]+$/.test(values.name) || !values.log || host === undefined)
    throw new Error(USAGE);
  const memory = new WitnessMemory(values.name, values.data, values.log.map(noteKey), Date.now);
  const server = witnessServer(memory);
  server.on('error', fail);
  server.listen(Number(port), host, () => {
    console.log(
      `witness at http://${values.listen}, of ${values.log!.length} trail${values.log!.length === 1 ? '' : 's'}; its key:\n${memory.key}`,
    );
  });
}

function fail(error: Error): void {
  console.error(`stowage-witness: ${error.message}`);
  process.exitCode = 2;
}

if (import.meta.main) {
  try {
    main();
  } catch (error) {
    fail(error as Error);
  }
}
