import { globSync, readFileSync } from 'node:fs';

/**
 * Fails where agent, controller or shared code takes time, timers, random numbers or ids from anywhere but the clock: a
 * simulator could not drive it. The command line, the page and programs for others, which are no part of a simulated fleet, are
 * left out.
 */
const LEAST_FILES = 150;
const TAKEN =
  /\bDate\.now\(|\bnew Date\(\)|\bMath\.random\(|(?<![.\w])randomUUID\(|(?<![.\w])randomBytes\(|(?<![.\w])set(?:Timeout|Interval)\(|timers\/promises|\bperformance\.now\(/;

const files = globSync('{agent,controller,shared}/**/*.ts').filter(
  (file) => file !== 'shared/util/clock.ts' && !/^controller\/(cli|web)\/|stowage-witness\.ts$/.test(file),
);
if (files.length < LEAST_FILES) {
  console.error(`determinism: the check saw only ${files.length} files; it proves nothing`);
  process.exit(1);
}
let violations = 0;
for (const file of files)
  for (const [index, line] of readFileSync(file, 'utf8').split('\n').entries())
    if (TAKEN.test(line)) {
      violations++;
      console.error(`determinism: ${file}:${index + 1}: ${line.trim()}`);
    }
if (violations > 0) process.exit(1);
console.log(`determinism: ${files.length} files, no violation`);
