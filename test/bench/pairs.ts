/** A contender: runs once and gives the seconds that count. */
export interface Contender {
  name: string;
  run(): Promise<number>;
}

const median = (values: number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;

/** Seconds that `work` takes. */
export async function seconds(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return (performance.now() - began) / 1000;
}

/**
 * Runs the contenders in turn, round by round, after one round that does not count, and prints for each its median, and
 * the median of how many times as long as the first it took in the same round.
 */
export async function compare(title: string, contenders: Contender[], rounds = 7): Promise<void> {
  const times = contenders.map(() => [] as number[]);
  for (let round = 0; round <= rounds; round++) {
    for (const [index, contender] of contenders.entries()) {
      const took = await contender.run();
      if (round > 0) times[index]!.push(took);
    }
  }
  console.log(`\n${title} (${rounds} rounds, seconds)`);
  for (const [index, contender] of contenders.entries()) {
    const own = times[index]!;
    const ratio = median(own.map((time, round) => time / times[0]![round]!));
    console.log(
      `  ${contender.name.padEnd(28)} median ${median(own).toFixed(3)}  (${Math.min(...own).toFixed(3)} to ${Math.max(...own).toFixed(3)})  ${ratio.toFixed(2)}x ours`,
    );
  }
}
