import { globSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { cruise, type ICruiseResult } from 'dependency-cruiser';

// A check that looked at nothing passes; this one must have seen the rooms and one well-known way through them.
const LEAST_MODULES = 100;
const LEAST_CORE = 60;

const config = createRequire(import.meta.url)('../../.dependency-cruiser.cjs');
const { output } = await cruise(['agent', 'controller', 'shared'], {
  ...config.options,
  ruleSet: { forbidden: config.forbidden },
  validate: true,
});
const { modules, summary } = output as ICruiseResult;

const sees = (from: string, to: string): boolean =>
  modules.some(
    (module) =>
      module.source === from && module.dependencies.some((dependency) => dependency.resolved === to),
  );
if (
  modules.length < LEAST_MODULES ||
  !sees('agent/routes/transfers.ts', 'shared/transfer/receive.ts') ||
  !sees('agent/host/run.ts', 'child_process') ||
  !sees('controller/web/app.tsx', 'controller/web/pages/jobs.tsx')
) {
  console.error(
    `boundaries: the check saw only ${modules.length} modules, or not their imports; it proves nothing`,
  );
  process.exit(1);
}
for (const { from, to, rule } of summary.violations)
  console.error(`boundaries: ${rule.name}: ${from} -> ${to}`);
// Nothing outside a backend asks for its name: the core asks for traits.
const { BackendRegistry, loadBackends } = await import('../../agent/backends/registry.ts');
const registry: InstanceType<typeof BackendRegistry> = await loadBackends(undefined);
const named = new RegExp(
  `['"](${registry
    .list()
    .map(({ type }) => type)
    .join('|')})['"]`,
);
let names = 0;
// Nor does anybody but the room that tells which pool a storage of Proxmox VE is.
const core = globSync('agent/**/*.ts').filter((file) => !/^agent\/(backends|domains|proxmox)\//.test(file));
for (const file of core)
  for (const [index, line] of readFileSync(file, 'utf8').split('\n').entries())
    if (named.test(line)) {
      names++;
      console.error(`boundaries: a backend is named outside of it: ${file}:${index + 1}: ${line.trim()}`);
    }
if (core.length < LEAST_CORE || registry.list().length === 0) {
  console.error(`boundaries: the check for names saw only ${core.length} files; it proves nothing`);
  process.exit(1);
}
if (summary.violations.length > 0 || names > 0) process.exit(1);
console.log(`boundaries: ${modules.length} modules, no violation`);
