/** Several measurements of one thing. */
export interface Series {
  readonly values: readonly number[];
  readonly best: number;
}

/**
 * Measures each subject in turn, round after round (A B A B …), so that what else the machine does falls on all
 * of them. The first round warms up and does not count.
 */
export async function alternate(
  subjects: ReadonlyMap<string, () => Promise<number>>,
  options: {
    readonly rounds: number;
    readonly best: "lowest" | "highest";
    readonly warmUp?: boolean;
  },
): Promise<ReadonlyMap<string, Series>> {
  const { rounds, best, warmUp = true } = options;
  const values = new Map<string, number[]>([...subjects.keys()].map((name) => [name, []]));
  for (let round = warmUp ? -1 : 0; round < rounds; round += 1) {
    for (const [name, measure] of subjects) {
      const value = await measure();
      if (round >= 0) values.get(name)?.push(value);
    }
  }
  const pick = best === "lowest" ? Math.min : Math.max;
  return new Map([...values].map(([name, list]) => [name, { values: list, best: pick(...list) }]));
}
