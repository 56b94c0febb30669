import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A domain around some disks. */
export function domainWith(
  disks: string,
  { type = 'qemu', name = 'guest', uuid = 'c7a5fdbd-edaf-9455-926a-d65c16db1809' } = {},
): string {
  return `<domain type='${type}'>
  <name>${name}</name>
  <uuid>${uuid}</uuid>
  <memory unit='KiB'>219136</memory>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
  </os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    ${disks}
  </devices>
</domain>
`;
}

/** The address of a QEMU driver of the test's own, that runs in virsh and keeps everything beneath `directory`. */
export function qemuJudge(directory: string): string {
  const root = join(directory, 'embedded');
  mkdirSync(join(root, 'etc'), { recursive: true });
  // As who runs the test: another user may not reach KVM, and then each call asks QEMU anew what it can do.
  writeFileSync(join(root, 'etc/qemu.conf'), 'user = "root"\ngroup = "root"\n');
  return `qemu:///embed?root=${root}`;
}

/** What a real libvirt says of a domain: its document after it was defined, or why it was refused. */
export type Verdict = { document: string } | { error: string };

/** Defines the domain `guest`, asks for its document, and undefines it. Nothing of it stays. */
export function judge(directory: string, document: string, uri = 'test:///default'): Verdict {
  const file = join(directory, 'judged.xml');
  writeFileSync(file, document);
  const commands = `define '${file}'; dumpxml --inactive guest; undefine guest`;
  const { stdout, stderr, status } = spawnSync('virsh', ['-q', '-c', uri, commands], {
    encoding: 'utf8',
    timeout: 20_000,
  });
  const [error] = stderr
    .split('\n')
    // Its log goes the same way.
    .filter((line) => line.startsWith('error: ') && !/Failed to define|failed to get domain/.test(line));
  if (error === undefined && (status !== 0 || !stdout.includes('<domain')))
    throw new Error(`virsh ended with ${status}: ${stdout} ${stderr}`);
  return error === undefined ? { document: stdout } : { error: error.replace(/^error: /, '') };
}

/** The disks of a document, without line breaks; that a chain ends is said by libvirt in every form, by us in the live one. */
export function disksOf(document: string): string {
  return document
    .slice(document.indexOf('<disk'), document.lastIndexOf('</disk>') + 7)
    .replace(/\n */g, '')
    .replaceAll('<backingStore/>', '');
}
