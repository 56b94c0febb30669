import { z } from 'zod';
import { representationSchema, volumeFormatSchema } from '../../shared/conf/volume.ts';
import { commitSchema, transferStatusSchema } from '../../shared/protocol/agent.ts';
import { fleetVolumeSchema, uploadSchema } from '../../shared/protocol/api.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { VolumePlace } from '../inventory/inventory.ts';
import type { UploadRequest } from '../jobs/uploads.ts';
import { type Call, defineAction } from './action.ts';
import { volumeAddress } from './addresses.ts';
import { allowUsedField, listed, type NamedSecret, secretField, secretNamed } from './volume.ts';

const wanted = volumeAddress.extend({
  ...allowUsedField,
  ...secretField,
  format: volumeFormatSchema.optional(),
  as: representationSchema.default('image'),
  /** Of content: what is sent is what the guest is to see, also where it looks like an image of another format. */
  sourceFormat: z.literal('raw').optional(),
  sizeBytes: z.number().int().positive().max(Number.MAX_SAFE_INTEGER),
  /** It shall become a new volume, and take the place of none. */
  onlyNew: z.boolean().default(false),
});

const wordsOf = (
  { sizeBytes, allowUsed }: z.output<typeof wanted>,
  secret: NamedSecret | undefined,
): string =>
  listed(
    `${sizeBytes} bytes`,
    secret ? `encrypted with the secret ${secret.usage}` : '',
    allowUsed ? 'also over what domains use' : '',
  );

const addressIn = ({ host, pool, volume }: z.output<typeof wanted>): VolumePlace => ({ host, pool, volume });

/** For an image the format of the volume is that of what is sent; for content it is not. */
const requestOf = (
  { format, as, sourceFormat, sizeBytes, onlyNew, allowUsed }: z.output<typeof wanted>,
  secret: NamedSecret | undefined,
): UploadRequest => ({
  ...{ format, sizeBytes, onlyNew, allowUsed },
  representation: as,
  formatAssumed: (as === 'image' ? format : sourceFormat) === undefined,
  secret: secret?.id,
});

function bytesOf({ body }: Call): NonNullable<Call['body']> {
  if (!body) throw new StowageError('invalid-argument', 'the bytes of the volume are missing');
  return body;
}

const begin = defineAction({
  name: 'volume.upload',
  summary: 'Begins the upload of a volume, or takes up the one that the same caller has begun.',
  role: 'operator',
  audited: true,
  input: wanted,
  answer: uploadSchema,
  plan: (services, { secret, ...place }) => secretNamed(services, secret, place),
  record: (input, secret) => ({ detail: wordsOf(input, secret) }),
  async run(services, input, { principal, note }, secret) {
    const upload = await services.uploads.begin(addressIn(input), requestOf(input, secret), principal.name);
    note(`job ${upload.job}`);
    return upload;
  },
});

const putBytes = defineAction({
  name: 'volume.upload-bytes',
  summary: 'Uploads the bytes of a volume from an offset on; with the last of them the volume is there.',
  role: 'operator',
  audited: true,
  input: wanted.extend({ offset: z.number().int().nonnegative() }),
  /** `volume` when it is complete. */
  answer: z.object({ status: transferStatusSchema, volume: fleetVolumeSchema.optional() }),
  plan: (services, { secret, ...place }) => secretNamed(services, secret, place),
  record: ({ offset, ...input }, secret) => ({
    detail: listed(wordsOf(input, secret), offset > 0 ? `from byte ${offset}` : ''),
  }),
  async run(services, { offset, ...input }, call, secret) {
    const { uploads } = services;
    const { host, pool } = input;
    const upload = await uploads.begin(addressIn(input), requestOf(input, secret), call.principal.name);
    call.note(`job ${upload.job}`);
    const status = await uploads.receiveBytes(host, upload, offset, bytesOf(call));
    if (!status.complete) return { status };
    return { status, volume: { host, pool, ...(await uploads.commit(host, upload, undefined)) } };
  },
});

const show = defineAction({
  name: 'upload.show',
  summary: 'How far an upload has come.',
  role: 'operator',
  input: volumeAddress,
  answer: uploadSchema,
  run: ({ uploads }, address) => uploads.find(address),
});

const cancel = defineAction({
  name: 'volume.upload-cancel',
  summary: 'Gives an upload up.',
  role: 'operator',
  audited: true,
  input: volumeAddress,
  answer: 'nothing',
  plan: ({ uploads }, address) => uploads.find(address),
  record: (_input, { job }) => ({ detail: `job ${job}` }),
  run: ({ uploads }, { host }, { principal }, upload) =>
    uploads.cancel(host, upload, new StowageError('cancelled', `cancelled by ${principal.name}`)),
});

const digests = defineAction({
  name: 'upload.digests',
  summary: 'The digests of the chunks that an upload has already.',
  role: 'operator',
  input: volumeAddress,
  answer: 'bytes',
  async run({ uploads, fleet }, address, { signal }) {
    const upload = await uploads.find(address);
    const agent = await fleet.client(address.host);
    const body = await agent.stream(`/v1/transfers/${upload.spec.id}/digests`, { signal });
    return { body, contentType: 'application/octet-stream' };
  },
});

const putExtents = defineAction({
  name: 'volume.upload-extents',
  summary: 'Uploads content without its holes and zeros, digested.',
  role: 'operator',
  audited: true,
  input: volumeAddress,
  answer: transferStatusSchema,
  plan: ({ uploads }, address) => uploads.find(address),
  record: (_input, { job }) => ({ detail: `job ${job}` }),
  run: ({ uploads }, { host }, call, upload) => uploads.receiveExtents(host, upload, bytesOf(call)),
});

const commit = defineAction({
  name: 'volume.upload-commit',
  summary: 'Makes a complete upload the volume.',
  role: 'operator',
  audited: true,
  input: volumeAddress.extend(commitSchema.shape),
  answer: fleetVolumeSchema,
  plan: ({ uploads }, address) => uploads.find(address),
  record: (_input, { job }) => ({ detail: `job ${job}` }),
  run: async ({ uploads }, { host, pool, digest }, _call, upload) => ({
    ...{ host, pool },
    ...(await uploads.commit(host, upload, digest)),
  }),
});

export const uploadActions = [begin, putBytes, show, cancel, digests, putExtents, commit];
