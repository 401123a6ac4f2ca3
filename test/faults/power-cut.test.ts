import { mkdir } from "node:fs/promises";

import { createTemporaryDirectory } from "@glorious/testkit";
import { expect, test } from "vitest";

import { LOSS_KINDS } from "./disk/losses.ts";
import { History } from "./history/history.ts";
import { createBench, freshDirectory, record, recover } from "./power-cut.ts";
import { createRandom } from "./random.ts";

test("try", async () => {
  await using temporary = await createTemporaryDirectory("flywheel-cuts-");
  const bench = await createBench(temporary.path, createRandom(1));
  const base = freshDirectory(bench, "empty");
  await mkdir(base);
  let t = Date.now();
  const recording = await record(bench, { base, history: new History(), clients: 3, steps: 8 });
  console.log("record", Date.now() - t, recording.operations.length, recording.history.acknowledged());
  for (const loss of LOSS_KINDS) {
    t = Date.now();
    const at = bench.random.below(recording.operations.length);
    const { violations } = await recover(bench, recording, { at, loss });
    console.log(loss, at, Date.now() - t, violations);
  }
});
