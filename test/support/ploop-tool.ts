import { execFileSync, spawnSync } from 'node:child_process';

/** Debian's ploop crashes in a small environment. */
const PADDING = 'x'.repeat(8192);
/** Lets the tool believe in version 2 without the kernel module; in a mount namespace of its own, so it needs root. */
const FAKE_MODULE =
  'mount -t tmpfs none /sys/module && mkdir -p /sys/module/ploop/parameters && echo 1 >/sys/module/ploop/parameters/large_disk_support && exec ploop "$@"';

export interface ToolResult {
  status: number;
  output: string;
}

/** Runs the real ploop tool. */
export function ploopTool(...args: string[]): ToolResult {
  const env = { ...process.env, PADDING };
  const result =
    process.getuid?.() === 0
      ? spawnSync('unshare', ['-m', 'sh', '-c', FAKE_MODULE, 'sh', ...args], { env, encoding: 'utf8' })
      : spawnSync('/usr/sbin/ploop', args, { env, encoding: 'utf8' });
  return { status: result.status ?? -1, output: `${result.stdout}${result.stderr}` };
}

/** As {@link ploopTool}; throws with the tool's words when it fails. */
export function ploopToolOk(...args: string[]): string {
  const { status, output } = ploopTool(...args);
  if (status !== 0) throw new Error(`ploop ${args.join(' ')}: status ${status}\n${output}`);
  return output;
}

export function qemuImg(...args: string[]): string {
  return execFileSync('qemu-img', args, { encoding: 'utf8' });
}
