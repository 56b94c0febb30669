import { relative } from 'node:path';
import type { TestEvent } from 'node:test/reporters';

const COUNT = 20;

/** A reporter for `node --test`: at the end, the files that took the longest, with their seconds. */
export default async function* slowFiles(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const files: { file: string; seconds: number }[] = [];
  for await (const { type, data } of events)
    if (type === 'test:summary' && data.file !== undefined)
      files.push({ file: relative(process.cwd(), data.file), seconds: data.duration_ms / 1000 });
  files.sort((a, b) => b.seconds - a.seconds);
  yield `\n${files.length} files; the slowest:\n`;
  for (const { file, seconds } of files.slice(0, COUNT))
    yield `${seconds.toFixed(0).padStart(5)} s  ${file}\n`;
}
