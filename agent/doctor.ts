import { access, constants, open, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { DoctorFinding } from '../shared/protocol/agent.ts';
import type { BackendRegistry } from './backends/registry.ts';
import { punchHole } from './host/holes.ts';
import { libc, libcMissingReason } from './host/libc.ts';
import { run } from './host/run.ts';

async function tool(
  name: string,
  args: string[],
  purpose: string,
  debianPackage: string,
): Promise<DoctorFinding> {
  const result = await run(name, args).catch(() => undefined);
  if (!result)
    return {
      name,
      ok: false,
      detail: `not found; ${purpose} does not work`,
      remedy: `apt-get install ${debianPackage}`,
    };
  return { name, ok: true, detail: (result.stdout || result.stderr).split('\n')[0]!.slice(0, 80) };
}

async function holes(directory: string): Promise<DoctorFinding> {
  const path = join(directory, `.doctor-${process.pid}`);
  const file = await open(path, 'w+');
  try {
    await file.truncate(1 << 20);
    const ok = punchHole(file, 0, 4096);
    return {
      name: 'holes',
      ok,
      detail: ok ? 'holes are found and punched' : 'holes cannot be punched; sparse files take more place',
      remedy: ok ? undefined : 'keep koffi.node beside the agent, and use ext4, xfs or btrfs',
    };
  } finally {
    await file.close();
    await rm(path, { force: true });
  }
}

async function kernelModule(): Promise<DoctorFinding> {
  const loaded = await access('/sys/module/ploop', constants.F_OK).then(
    () => true,
    () => false,
  );
  return {
    name: 'ploop kernel module',
    ok: true,
    detail: loaded
      ? 'loaded; mounted volumes are left to the ploop tool'
      : 'not loaded; ploop volumes are worked on offline, by this agent itself',
  };
}

/** Which kinds of pools work here, and what some of them lack. That is no fault of a host that has no such storage. */
async function backendFindings(backends: BackendRegistry): Promise<DoctorFinding[]> {
  const found = backends.list().map(async (backend): Promise<DoctorFinding[]> => {
    const name = `pools of type ${backend.type}`;
    const missing = await backends.probe(backend);
    if (missing) return [{ name, ok: true, detail: `not here: ${missing.reason}`, remedy: missing.remedy }];
    const lacks = await backends.lacks(backend);
    return [
      { name, ok: true, detail: 'work' },
      ...lacks.map(({ reason, remedy }) => ({ name, ok: true, detail: `some lack this: ${reason}`, remedy })),
    ];
  });
  const refused = backends.refused.map(({ file, reason }) => ({
    name: `backend ${file}`,
    ok: false,
    detail: `left aside: ${reason}`,
    remedy: 'mend it, or take it out of STOWAGE_BACKEND_DIR',
  }));
  return [...(await Promise.all(found)).flat(), ...refused];
}

/** What this host has and lacks, each with a reason and a remedy. `directory` is one the agent may write to. */
export async function doctor(directory: string, backends: BackendRegistry): Promise<DoctorFinding[]> {
  const space = await statfs(directory);
  const freeBytes = space.bavail * space.bsize;
  const node = process.versions.node;
  return [
    {
      name: 'node',
      ok: Number(node.split('.')[0]) >= 24,
      detail: node,
      remedy: Number(node.split('.')[0]) >= 24 ? undefined : 'Node 24 or later',
    },
    {
      name: 'native helper',
      ok: libc !== undefined,
      detail: libc
        ? 'koffi.node loaded'
        : `${libcMissingReason}; holes are found by reading, which is slower`,
      remedy: libc ? undefined : 'put koffi.node for this machine beside the agent',
    },
    await holes(directory),
    await tool('qemu-img', ['--version'], 'making and converting qcow2', 'qemu-utils'),
    await tool('flock', ['--version'], 'locking ploop volumes without the native helper', 'util-linux'),
    await kernelModule(),
    ...(await backendFindings(backends)),
    {
      name: 'state directory',
      ok: freeBytes > 64 << 20,
      detail: `${directory}, ${Math.round(freeBytes / (1 << 20))} MiB free`,
      remedy: freeBytes > 64 << 20 ? undefined : 'free some space: fences and pools are kept here',
    },
  ];
}
