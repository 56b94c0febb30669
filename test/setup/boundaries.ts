import { createRequire } from 'node:module';
import { cruise, type ICruiseResult } from 'dependency-cruiser';

// A check that looked at nothing passes; this one must have seen the rooms and one well-known way through them.
const LEAST_MODULES = 100;

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
  !sees('agent/host/run.ts', 'child_process')
) {
  console.error(
    `boundaries: the check saw only ${modules.length} modules, or not their imports; it proves nothing`,
  );
  process.exit(1);
}
for (const { from, to, rule } of summary.violations)
  console.error(`boundaries: ${rule.name}: ${from} -> ${to}`);
if (summary.violations.length > 0) process.exit(1);
console.log(`boundaries: ${modules.length} modules, no violation`);
