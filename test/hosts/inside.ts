import { appendFileSync } from 'node:fs';
import { run } from 'node:test';

/** What came of one test. */
export interface Outcome {
  name: string;
  seconds: number;
  skip?: string;
  failure?: string;
}

// Runs one test file in this process and writes its outcomes, a line each: inside.ts FILE OUTCOMES.
const [file, outcomes] = process.argv.slice(2) as [string, string];
const write = (outcome: Outcome): void => appendFileSync(outcomes, `${JSON.stringify(outcome)}\n`);
const suite = (type: string | undefined): boolean => type === 'suite';

const testNamePatterns = process.env.STOWAGE_TEST_NAMES || undefined;
/** What went wrong, and what it hid. */
function describe(error: Error): string {
  const { error: later, suppressed } = error as Partial<SuppressedError>;
  const hidden = [later, suppressed].filter((each) => each instanceof Error);
  return [String(error.stack ?? error), ...hidden.map(describe)].join('\n');
}

const stream = run({ files: [file], isolation: 'none', concurrency: false, testNamePatterns });
stream.on('test:pass', ({ name, skip, details }) => {
  if (suite(details.type)) return;
  const seconds = details.duration_ms / 1000;
  write({ name, seconds, skip: skip === undefined ? undefined : String(skip) });
});
stream.on('test:fail', ({ name, details }) => {
  process.exitCode = 1;
  if (suite(details.type)) return;
  const cause = (details.error.cause ?? details.error) as Error;
  write({ name, seconds: details.duration_ms / 1000, failure: describe(cause) });
});
stream.resume();
