#!/usr/bin/env node

// A witness for audit trails, on a machine that nobody who works with their controllers can change: it remembers up to where it has seen each
// trail, and signs only what goes on from there (C2SP tlog-witness). It needs Node 24 and the directory `controller/audit`, and no more.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { parseArgs } from 'node:util';
import { ED25519, noteKey } from '../stowage-verify.ts';
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
      help: { type: 'boolean' },
    },
  });
  const [, host, port] = /^\[?(.+?)\]?:(\d{1,5})$/.exec(values.listen) ?? [];
  if (values.help) {
    console.log(USAGE);
    return;
  }
  if (values.name === undefined || !values.log) throw new Error(USAGE);
  if (!/^[^+\s]+$/.test(values.name))
    throw new Error('--name: a URL without a scheme, such as witness.example/w1');
  if (host === undefined) throw new Error('--listen: HOST:PORT, such as 0.0.0.0:7080');
  const logs = [...new Set(values.log)].map(noteKey);
  if (logs.some(({ type }) => type !== ED25519))
    throw new Error('--log: that is the key of a witness, and not the one of a trail');
  const memory = new WitnessMemory(values.name, values.data, logs, Date.now);
  const server = witnessServer(memory);
  server.on('error', fail);
  server.listen(Number(port), host, () => {
    console.log(
      `witness at http://${values.listen}, of ${logs.length} trail${logs.length === 1 ? '' : 's'}; its key:\n${memory.key}`,
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
