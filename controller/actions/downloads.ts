import { z } from 'zod';
import { extentsQuery, layoutSchema, representationQuery } from '../../shared/protocol/agent.ts';
import { readingQuery } from '../../shared/protocol/reading.ts';
import { agentVolumePath } from '../hosts/agent-client.ts';
import { type ByteStream, type Call, defineAction, type Services } from './action.ts';
import { volumeAddress } from './addresses.ts';
import { listed, passphraseToRead, readingWords, referenceOf, type VolumeAddress } from './volume.ts';

/** What an agent says of the bytes that it sends. */
const PASSED_ON = ['content-length', 'content-range', 'accept-ranges', 'etag'] as const;

/** Passes an agent's answer on, holding the volume until the last byte is read or nobody reads on. */
export async function passOn(
  { fleet, leases }: Services,
  address: VolumeAddress,
  agentPath: string,
  { principal, signal }: Call,
  request: { method?: string; headers?: Record<string, string>; passphrase?: string } = {},
): Promise<ByteStream> {
  const agent = await fleet.client(address.host);
  const holder = `download by ${principal.name}`;
  const lease = await leases.acquire({ volume: referenceOf(address), mode: 'read', holder });
  const release = (): void => void lease[Symbol.asyncDispose]();
  try {
    signal.throwIfAborted();
    const body = await agent.stream(agentPath, { ...request, signal, patient: true, bulk: true });
    body.once('close', release);
    const headers: Record<string, string> = {};
    for (const name of PASSED_ON) {
      const value = body.headers[name];
      if (value !== undefined) headers[name] = value;
    }
    const contentType = body.headers['content-type'] ?? 'application/octet-stream';
    return { body, contentType, status: body.statusCode, headers };
  } catch (error) {
    release();
    throw error;
  }
}

const download = defineAction({
  name: 'volume.download',
  summary: 'The bytes of a volume, or a range of them.',
  role: 'viewer',
  audited: true,
  input: volumeAddress.extend({
    ...representationQuery.shape,
    /** As the HTTP headers of these names. */
    range: z.string().max(200).optional(),
    ifRange: z.string().max(200).optional(),
    /** Only what would be sent, without the bytes. */
    head: z.boolean().default(false),
  }),
  answer: 'bytes',
  record: ({ range, ...reading }) => ({ detail: listed(readingWords(reading), range ?? '') }),
  async run(services, { as, snapshot, range, ifRange, head, ...address }, call) {
    const headers: Record<string, string> = {};
    if (range !== undefined) headers.range = range;
    if (ifRange !== undefined) headers['if-range'] = ifRange;
    const path = `${agentVolumePath(address)}/data?${readingQuery({ as, snapshot })}`;
    const passphrase = await passphraseToRead(services, address, as, call.principal);
    return passOn(services, address, path, call, { method: head ? 'HEAD' : 'GET', headers, passphrase });
  },
});

const extents = defineAction({
  name: 'volume.download-extents',
  summary: 'The content of a volume without its holes and zeros, digested, from a chunk on.',
  role: 'viewer',
  audited: true,
  input: volumeAddress.extend(extentsQuery.shape),
  answer: 'bytes',
  record: ({ from, ...reading }) => ({
    detail: listed(readingWords(reading), from === 0 ? '' : `from chunk ${from}`),
  }),
  async run(services, { as, snapshot, etag, from, ...address }, call) {
    const state = new URLSearchParams({ from: String(from), ...(etag !== undefined && { etag }) });
    const query = `${readingQuery({ as, snapshot })}&${state}`;
    const passphrase = await passphraseToRead(services, address, as, call.principal);
    return passOn(services, address, `${agentVolumePath(address)}/extents?${query}`, call, { passphrase });
  },
});

const layout = defineAction({
  name: 'volume.layout',
  summary: 'The parts of which a download of a volume consists.',
  role: 'viewer',
  input: volumeAddress.extend(representationQuery.shape),
  answer: layoutSchema,
  async run(services, { as, snapshot, ...address }, { principal }) {
    const agent = await services.fleet.client(address.host);
    const passphrase = await passphraseToRead(services, address, as, principal);
    const path = `${agentVolumePath(address)}/layout?${readingQuery({ as, snapshot })}`;
    return agent.json(layoutSchema, path, { passphrase, patient: true });
  },
});

export const downloadActions = [download, extents, layout];
