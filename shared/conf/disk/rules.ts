import { ADDRESS_RULES, COMMON_LAYER_RULES, COMMON_RULES } from './common-rules.ts';
import type { Disk } from './disk.ts';
import { QEMU_ADDRESS_RULES, QEMU_LAYER_RULES, QEMU_RULES } from './qemu-rules.ts';
import { type DiskRule, type LayerRule, layersOf, type RuleContext } from './rule.ts';

function refuseDisk(rules: readonly DiskRule[], disk: Disk, context: RuleContext): void {
  for (const { refuses, error, message } of rules)
    if (refuses(disk, context)) throw error(typeof message === 'string' ? message : message(disk));
}

function refuseImages(rules: readonly LayerRule[], disk: Disk): void {
  for (const layer of layersOf(disk))
    for (const { refuses, error, message } of rules)
      if (refuses(layer, disk)) throw error(typeof message === 'string' ? message : message(layer));
}

/**
 * The one list that every disk must pass before it is saved and before it is attached, in libvirt's order: what was saved
 * can start. Throws `invalid-xml` with libvirt's message for the first rule that refuses.
 */
export function checkDisk(disk: Disk, context: RuleContext): void {
  if (context.qemu) refuseDisk(QEMU_ADDRESS_RULES, disk, context);
  refuseDisk(ADDRESS_RULES, disk, context);
  refuseImages(COMMON_LAYER_RULES, disk);
  refuseDisk(COMMON_RULES, disk, context);
  if (!context.qemu) return;
  refuseDisk(QEMU_RULES, disk, context);
  refuseImages(QEMU_LAYER_RULES, disk);
}
