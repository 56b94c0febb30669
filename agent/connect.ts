import { createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import type { Server } from 'node:http';
import { join } from 'node:path';
import { TLSSocket } from 'node:tls';
import { createWebSocketStream, WebSocket } from 'ws';
import {
  LINK_PATH,
  type LinkMessage,
  linkMessageSchema,
  parseToken,
  STREAM_PATH,
} from '../shared/protocol/link.ts';
import {
  isSignedByController,
  keyFingerprint,
  LinkKey,
  publicPem,
  signAsAgent,
} from '../shared/protocol/link-keys.ts';
import { serverTls } from '../shared/transfer/tls.ts';
import { clock, sleep } from '../shared/util/clock.ts';
import { StowageError } from '../shared/util/errors.ts';
import { parseJson } from '../shared/util/json.ts';
import { schemeHint } from '../shared/util/scheme-hint.ts';
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

function websocketUrl(controller: string, path: string): string {
  const url = new URL(path, controller);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  return url.href;
}

/**
 * Dials one more WebSocket and hands it to the HTTP server as if it had been accepted. With a secret it is TLS, and whoever
 * does not hold that gets nothing.
 */
function openStream(
  options: ConnectOptions,
  server: Server,
  stream: string,
  secret: string | undefined,
): void {
  const socket = new WebSocket(websocketUrl(options.controller, `${STREAM_PATH}/${stream}`), {
    perMessageDeflate: false,
    // Without an authority's word the secret of the link has to be shown.
    rejectUnauthorized: secret === undefined,
  });
  socket.once('open', () => {
    const duplex = createWebSocketStream(socket);
    duplex.on('error', () => duplex.destroy());
    const inner = secret === undefined ? duplex : serverTls(duplex, { transfer: stream, secret });
    inner.on('error', () => duplex.destroy());
    // A WebSocket that closes ends only the reading side of its stream: an answer under way would never hear of it.
    socket.once('close', () => {
      inner.destroy();
      duplex.destroy();
    });
    server.emit('connection', inner);
  });
  socket.once('error', (error) => options.log(`stream refused: ${error.message}`));
}

/** The fingerprint of the controller that this agent was enrolled at. */
const pinPath = (stateDirectory: string): string => join(stateDirectory, 'controller-key');

/** One life of the control socket: both ends prove who they are, then streams are opened as the controller asks for them. */
async function session(
  options: ConnectOptions,
  key: KeyObject,
  server: Server,
  signal: AbortSignal,
): Promise<string> {
  const text = options.tokenFile && (await readIfExists(options.tokenFile))?.trim();
  const token = text ? parseToken(text) : undefined;
  const pinned = token?.controller ?? (await readIfExists(pinPath(options.stateDirectory)))?.trim();
  const socket = new WebSocket(websocketUrl(options.controller, LINK_PATH), {
    perMessageDeflate: false,
    maxPayload: 64 << 10,
    rejectUnauthorized: false,
  });
  const send = (message: LinkMessage): void => socket.send(JSON.stringify(message));
  const linkKey = new LinkKey();
  let sealed = true;
  let secret: string | undefined;
  let controllerKey: string | undefined;
  let welcome = false;
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
    socket.once('error', ({ message }) => end(`${message}${schemeHint(options.controller, message)}`));
    socket.once('close', (_code, reason) => end(reason.toString() || 'the controller closed the link'));
    // Where an authority vouches for the server nobody reads along; else the streams are sealed by the keys of the link, and whose
    // certificate it is does not matter: both ends prove who they are.
    socket.once('upgrade', ({ socket: under }) => {
      sealed = !(under instanceof TLSSocket && under.authorized);
    });
    socket.once('open', () => send({ type: 'hello', version: 2, linkKey: linkKey.publicKey, sealed }));

    /** Nothing of ours is sent before the controller has shown that it is the one; throws where it does not. */
    const prove = (challenge: Extract<LinkMessage, { type: 'challenge' }>): void => {
      const keys = { agent: linkKey.publicKey, controller: challenge.linkKey };
      if (!isSignedByController(challenge.publicKey, keys, challenge.signature))
        throw new Error('the controller could not prove that it has its key');
      const shown = keyFingerprint(challenge.publicKey);
      if (token?.controller !== undefined && shown !== token.controller)
        throw new Error(
          `what answers has the key ${shown}, and the token is of a controller with the key ${token.controller}, or damaged; nothing was sent`,
        );
      if (pinned && shown !== pinned)
        throw new Error(
          `what answers has the key ${shown}, and this agent was enrolled at a controller with the key ${pinned}; ` +
            'nothing was sent; a new token enrols it elsewhere',
        );
      secret = sealed ? linkKey.secret(challenge.linkKey, keys) : undefined;
      controllerKey = challenge.publicKey;
      send({
        type: 'proof',
        agentId: options.agentId,
        publicKey: publicPem(key),
        signature: signAsAgent(key, keys, challenge.publicKey),
        token: token?.secret,
      });
    };

    const settle = async (): Promise<void> => {
      if (controllerKey === undefined) return;
      const path = pinPath(options.stateDirectory);
      await replaceFile(path, keyFingerprint(controllerKey)).catch((error) =>
        options.log(`the controller's key cannot be kept in ${path}: ${error.message}`),
      );
      if (options.tokenFile)
        await removeIfExists(options.tokenFile).catch((error) =>
          options.log(`the token was used; ${options.tokenFile} cannot be removed: ${error.message}`),
        );
    };

    socket.on('message', (data) => {
      heard = clock.now();
      const message = linkMessageSchema.safeParse(parseJson(data.toString()));
      if (!message.success) return end('the controller speaks another protocol');
      try {
        switch (message.data.type) {
          case 'challenge':
            if (controllerKey !== undefined) return end('the controller began anew');
            return prove(message.data);
          case 'welcome':
            if (controllerKey === undefined) return end('the controller has not proved who it is');
            welcome = true;
            options.log(`linked to ${options.controller} as ${message.data.host}`);
            void settle();
            return;
          case 'open':
            if (welcome) openStream(options, server, message.data.stream, secret);
            return;
          case 'refused':
            return end(`refused: ${message.data.reason}`);
        }
      } catch (error) {
        end(error instanceof Error ? error.message : String(error));
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
  const { tokenFile } = options;
  // It is deleted when it was used: only before that it must be there.
  const isEnrolled = (await readIfExists(pinPath(options.stateDirectory))) !== undefined;
  if (tokenFile !== undefined && !isEnrolled && (await readIfExists(tokenFile)) === undefined)
    throw new StowageError('invalid-argument', `there is no token file ${tokenFile}`);
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
