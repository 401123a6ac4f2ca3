import fc from "fast-check";
import { expect, test } from "vitest";

import { begin, indexCommands, inspect } from "./index-commands.ts";
import { IndexModel } from "./index-model.ts";
import { type OpenIndex } from "./index-setup.ts";

export function describeHistories(open: OpenIndex, runs: number): void {
  test("every answer is the one that the plain model gives", { timeout: 300_000 }, async () => {
    const tried = fc.assert(
      fc.asyncProperty(indexCommands, async (commands) => {
        await using index = await open();
        const model = new IndexModel();
        await fc.asyncModelRun(() => ({ model, real: index }), [...begin, ...commands, inspect]);
      }),
      { numRuns: runs },
    );
    await expect(tried).resolves.toBeUndefined();
  });
}
