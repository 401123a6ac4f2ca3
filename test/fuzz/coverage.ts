import { type Profiler, Session } from "node:inspector/promises";

/** Tells which parts of the sources run. */
export interface Coverage extends Disposable {
  /** How many blocks of the watched sources have ever run. */
  readonly blocks: number;
  /** The blocks that ran since the last call and never before; they stay new until {@link Coverage.add}. */
  takeNew(): Promise<ReadonlySet<string>>;
  add(blocks: ReadonlySet<string>): void;
}

/** Asks V8 itself, whose counters tell blocks apart, so nothing has to be instrumented. One at a time. */
export async function startCoverage(guides: RegExp): Promise<Coverage> {
  const session = new Session();
  session.connect();
  await session.post("Profiler.enable");
  await session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: true });
  const seen = new Set<string>();
  return {
    get blocks() {
      return seen.size;
    },
    async takeNew() {
      const { result } = await session.post("Profiler.takePreciseCoverage");
      const ran = result.filter(({ url }) => guides.test(url)).flatMap(listBlocks);
      return new Set(ran.filter((block) => !seen.has(block)));
    },
    add(blocks) {
      for (const block of blocks) seen.add(block);
    },
    [Symbol.dispose]: () => session.disconnect(),
  };
}

function listBlocks({ scriptId, functions }: Profiler.ScriptCoverage): string[] {
  return functions.flatMap(({ ranges }) =>
    ranges
      .filter(({ count }) => count > 0)
      // How often matters too, roughly: the second turn of a loop is another state.
      .map(({ startOffset, endOffset, count }) => {
        const often = Math.min(3, Math.floor(Math.log2(count) / 3));
        return `${scriptId}:${startOffset}:${endOffset}:${often}`;
      }),
  );
}
