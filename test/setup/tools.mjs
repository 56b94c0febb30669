// Installs the Debian packages that the tests use, when root; otherwise names them. Plain JavaScript: it may run on any Node.
import { spawnSync } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';

const TOOLS = {
  sshd: 'openssh-server',
  ssh: 'openssh-client',
  'ssh-keygen': 'openssh-client',
  ploop: 'ploop',
  'qemu-img': 'qemu-utils',
  rsync: 'rsync',
  ip: 'iproute2',
  unshare: 'util-linux',
  curl: 'curl',
  // A terminal, and the shells whose completion is tried.
  script: 'bsdutils',
  zsh: 'zsh',
  fish: 'fish',
  wget: 'wget',
  'mkfs.ext4': 'e2fsprogs',
  'mkfs.xfs': 'xfsprogs',
  'mkfs.btrfs': 'btrfs-progs',
  cryptsetup: 'cryptsetup-bin',
  sudo: 'sudo',
  sshfs: 'sshfs',
  glusterd: 'glusterfs-server',
  'mount.glusterfs': 'glusterfs-client',
  blkid: 'util-linux',
  parted: 'parted',
  sfdisk: 'fdisk',
  // Servers of block storage, and the libraries that the agent reaches them by.
  'ceph-mon': 'ceph-mon',
  'ceph-mgr': 'ceph-mgr',
  'ceph-osd': 'ceph-osd',
  rbd: 'ceph-common',
  tgtd: 'tgt',
  'iscsi-ls': 'libiscsi-bin',
  'zfs-fuse': 'zfs-fuse',
  // What the plug-in for Proxmox VE asks the agent with.
  '/usr/share/perl5/URI/Escape.pm': 'liburi-perl',
  // Another store of the controller. Its programs lie in a directory of their version.
  psql: 'postgresql',
  flock: 'util-linux',
  // The page is tried in a real browser, its letters in a real font.
  chromium: 'chromium',
  promtool: 'prometheus',
  // Where the audit trail is sent to.
  rsyslogd: 'rsyslog',
  '/usr/lib/x86_64-linux-gnu/rsyslog/lmnsd_gtls.so': 'rsyslog-gnutls',
  '/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf': 'fonts-dejavu-core',
  // Test hosts with a kernel of their own.
  mmdebstrap: 'mmdebstrap',
  lz4: 'lz4',
  '/usr/lib/qemu/virtiofsd': 'qemu-system-common',
  // Machines that boot with systemd, and what reads manual pages.
  'systemd-nspawn': 'systemd-container',
  mandoc: 'mandoc',
  virsh: 'libvirt-clients',
  xmllint: 'libxml2-utils',
  // libvirt's QEMU driver, which virsh loads into itself, and what it asks.
  'virt-qemu-run': 'libvirt-daemon-driver-qemu',
  'qemu-system-x86_64': 'qemu-system-x86',
  // Without the user that this makes the driver does not start.
  '/etc/libvirt/libvirtd.conf': 'libvirt-daemon-system',
  // What the benchmarks compare with.
  ...(process.argv.includes('--bench') && { nc: 'netcat-openbsd' }),
};
const PATHS = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

const missing = Object.entries(TOOLS).filter(
  ([tool]) =>
    !(tool.startsWith('/') ? existsSync(tool) : PATHS.some((path) => existsSync(`${path}/${tool}`))),
);
const packages = [...new Set(missing.flatMap(([, names]) => names.split(' ')))];

if (packages.length > 0) {
  const install = `apt-get install -y --no-install-recommends ${packages.join(' ')}`;
  if (process.getuid() !== 0) {
    console.error(`setup: the tests need Debian packages that are not here; as root: ${install}`);
    process.exit(1);
  }
  console.error(`setup: ${install}`);
  // No daemon shall be started by being installed.
  const policy = '/usr/sbin/policy-rc.d';
  const ours = !existsSync(policy);
  if (ours) writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const run = (command, args) => spawnSync(command, args, { env, encoding: 'utf8' });
  run('apt-get', ['update', '-qq']);
  const result = run('apt-get', install.split(' ').slice(1));
  if (ours) rmSync(policy);
  if (result.status !== 0) {
    console.error(result.stdout, result.stderr);
    process.exit(1);
  }
}
