import { VmdkContent } from '../../../shared/formats/vmdk/content.ts';
import { refuseOthersInHead } from '../../../shared/formats/vmdk/descriptor.ts';
import { parseVmdkHeader, readVmdkHeader } from '../../../shared/formats/vmdk/header.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { runOk } from '../../host/run.ts';
import type { FormatFacts, ImageFormat } from '../format.ts';
import { withToolName } from '../qemu-tool.ts';

const GRAIN_BYTES = 64 << 10;
/** Of both copies of the tables, for each grain. */
const ENTRY_BYTES = 8;
/** Header, descriptor and directories. */
const FIXED_BYTES = 1 << 20;

/** Of the first bytes of an image. Throws `invalid-image` also for one that is not alone. */
export function factsOfVmdk(head: Buffer): FormatFacts {
  const { capacityBytes } = parseVmdkHeader(head);
  refuseOthersInHead(head);
  return { capacityBytes, snapshotCount: 0 };
}

/** Into an image that is there, and reads as zeros. */
const INTO_NEW = ['-n', '--target-is-zero'];

/** Images of VMware in one file: sparse ones, and packed ones as in OVA archives. Read here; made by qemu-img, which makes sparse ones. */
export const vmdk: ImageFormat = {
  name: 'vmdk',
  plain: false,
  sizedByImage: false,
  filesOnly: true,

  mostBytes: (capacityBytes) =>
    capacityBytes + Math.ceil(capacityBytes / GRAIN_BYTES) * ENTRY_BYTES + FIXED_BYTES,

  async facts(image) {
    const { capacityBytes } = await readVmdkHeader(image);
    return { capacityBytes, snapshotCount: 0 };
  },

  async create(image, { capacityBytes, preallocate }, signal) {
    if (preallocate)
      throw new StowageError('not-supported', 'a vmdk image is not preallocated: it grows as it is written');
    await withToolName(image, 'change', ({ operand }) =>
      runOk('qemu-img', ['create', '-q', '-f', 'vmdk', '--', operand, String(capacityBytes)], { signal }),
    );
    await image.flush();
  },

  async resize() {
    throw new StowageError(
      'not-supported',
      'a vmdk image keeps its capacity; copy it to another format, by vol copy --format qcow2',
    );
  },

  inspect(head) {
    parseVmdkHeader(head);
  },

  /** Looks through all tables: an image that is cut is refused. */
  async adopt(image) {
    const content = await VmdkContent.open(image);
    for await (const _ of content.extents(0, content.sizeBytes));
  },

  openContent: (image) => VmdkContent.open(image),

  async fromContent(content, image, volume, signal) {
    await vmdk.create(image, volume, signal);
    await withToolName(content, 'read', (from) =>
      withToolName(image, 'change', (to) =>
        runOk(
          'qemu-img',
          ['convert', ...INTO_NEW, '-f', 'raw', '-O', 'vmdk', '--', from.operand, to.operand],
          { signal },
        ),
      ),
    );
    await image.flush();
  },
};
