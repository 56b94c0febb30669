import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import type { Server } from 'node:http';
import { join } from 'node:path';
import { createWebSocketStream, WebSocket } from 'ws';
import {
  LINK_PATH,
  type LinkMessage,
  linkMessageSchema,
  proofText,
  STREAM_PATH,
} from '../shared/protocol/link.ts';
import { clock, sleep } from '../shared/util/clock.ts';
import { readIfExists, removeIfExists, replaceFile } from './host/files.ts';

const PING_MS = 10_000;
const SILENCE_MS = 30_000;

export interface ConnectOptions {
  /** `https://` or `http://` URL of the controller. */
  controller: string;
  /** Where the one-time enrolment token lies; deleted once it was used. */
  tokenFile?: string;
  stateDirectory: string;
  agentId: string;
  log(message: string): void;
}

/** The agent's own key, made at the first start and never sent anywhere. */
async function loadKey(directory: string): Promise<KeyObject> {
  const path = join(directory, 'link-key.pem');
  // An unreadable key is no missing one: with another the controller would not know this agent.
  const stored = await readIfExists(path);
  if (stored) return createPrivateKey(stored);
  const { privateKey } = generateKeyPairSync('ed25519');
  await replaceFile(path, privateKey.export({ type: 'pkcs8', format: 'pem' }).toString());
  return privateKey;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function websocketUrl(controller: string, path: string): string {
  const url = new URL(path, controller);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  return url.href;
}

/** Dials one more WebSocket and hands it to the HTTP server as if it had been accepted. */
function openStream(options: ConnectOptions, server: Server, stream: string): void {
  const socket = new WebSocket(websocketUrl(options.controller, `${STREAM_PATH}/${stream}`), {
    perMessageDeflate: false,
  });
  socket.once('open', () => {
    const duplex = createWebSocketStream(socket);
    duplex.on('error', () => duplex.destroy());
    // A WebSocket that closes ends only the reading side of its stream: an answer under way would never hear of it.
    socket.once('close', () => duplex.destroy());
    server.emit('connection', duplex);
  });
  socket.once('error', (error) => options.log(`stream refused: ${error.message}`));
}

/** One life of the control socket: proves who we are, then opens streams as the controller asks for them. */
async function session(
  options: ConnectOptions,
  key: KeyObject,
  server: Server,
  signal: AbortSignal,
): Promise<string> {
  const token = options.tokenFile && (await readIfExists(options.tokenFile))?.trim();
  const socket = new WebSocket(websocketUrl(options.controller, LINK_PATH), {
    perMessageDeflate: false,
    maxPayload: 64 << 10,
  });
  const send = (message: LinkMessage): void => socket.send(JSON.stringify(message));
  const publicKey = createPublicKey(key).export({ type: 'spki', format: 'pem' }).toString();
  return new Promise((resolve) => {
    let heard = clock.now();
    const ping = clock.every(PING_MS, () => {
      if (clock.now() - heard > SILENCE_MS) socket.terminate();
      else if (socket.readyState === WebSocket.OPEN) socket.ping();
    });
    const end = (reason: string): void => {
      ping.stop();
      signal.removeEventListener('abort', stop);
      socket.terminate();
      resolve(reason);
    };
    const stop = (): void => end('stopped');
    signal.addEventListener('abort', stop);
    socket.on('pong', () => {
      heard = clock.now();
    });
    socket.once('error', (error) => end(error.message));
    socket.once('close', (_code, reason) => end(reason.toString() || 'the controller closed the link'));
    socket.once('open', () =>
      send({ type: 'hello', agentId: options.agentId, publicKey, token: token || undefined }),
    );
    socket.on('message', (data) => {
      heard = clock.now();
      const message = linkMessageSchema.safeParse(parseJson(data.toString()));
      if (!message.success) return end('the controller speaks another protocol');
      if (message.data.type === 'challenge') {
        send({ type: 'proof', signature: sign(null, proofText(message.data.nonce), key).toString('base64') });
      } else if (message.data.type === 'welcome') {
        options.log(`linked to ${options.controller} as ${message.data.host}`);
        if (options.tokenFile)
          void removeIfExists(options.tokenFile).catch((error) =>
            options.log(`the token was used; ${options.tokenFile} cannot be removed: ${error.message}`),
          );
      } else if (message.data.type === 'open') {
        openStream(options, server, message.data.stream);
      } else if (message.data.type === 'refused') {
        end(`refused: ${message.data.reason}`);
      }
    });
  });
}

/** Keeps the link to the controller up until `signal`: dials, and after each end dials again after a jittered pause. */
export async function keepConnected(
  options: ConnectOptions,
  server: Server,
  signal: AbortSignal,
): Promise<void> {
  const key = await loadKey(options.stateDirectory);
  let pauseMs = 500;
  while (!signal.aborted) {
    const began = clock.now();
    const reason = await session(options, key, server, signal).catch((error: Error) => error.message);
    if (signal.aborted) return;
    pauseMs = clock.now() - began > 60_000 ? 500 : Math.min(pauseMs * 2, 30_000);
    const wait = pauseMs * (0.5 + clock.random());
    options.log(`link ended (${reason}); dialling again in ${Math.round(wait / 100) / 10} s`);
    await sleep(wait, signal).catch(() => undefined);
  }
}
