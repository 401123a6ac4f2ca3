import { mkdir } from "node:fs/promises";

import { createTemporaryDirectory } from "@glorious/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { createRandom } from "../random.ts";
import type { IgnoresSync } from "./disk/disk-model.ts";
import { History } from "./history/history.ts";
import { findMissingFlush, type Flush, type SoundCuts } from "./missing-flush.ts";
import {
  type Bench,
  chooseCut,
  createBench,
  type Cut,
  describeCut,
  freshDirectory,
  record,
  type Recording,
  recover,
} from "./power-cut.ts";
import { buildRecorder } from "./recorder/build-recorder.ts";
import { IS_LONG, SEED } from "./scale.ts";

const built = await buildRecorder();
const reason = "missing" in built ? `no power cuts: ${built.missing}` : undefined;
const [GENERATIONS, CUTS] = IS_LONG ? [25, 10] : [2, 8];
/** A disk lives through so many power cuts; then a new one keeps the checks short. */
const GENERATIONS_PER_DISK = 4;

async function makeBench(name: string): Promise<Bench & AsyncDisposable> {
  const temporary = await createTemporaryDirectory("flywheel-cuts-");
  const bench = await createBench(temporary.path, createRandom(`${SEED} ${name}`));
  return { ...bench, [Symbol.asyncDispose]: () => temporary[Symbol.asyncDispose]() };
}

async function emptyDisk(bench: Bench): Promise<string> {
  const disk = freshDirectory(bench, "empty");
  await mkdir(disk);
  return disk;
}

test(
  "whenever the power goes, everything acknowledged is there afterwards and nothing else is half there",
  { timeout: IS_LONG ? 3_600_000 : 120_000 },
  async ({ skip, annotate }) => {
    if (reason !== undefined) skip(reason);
    await using bench = await makeBench("generations");
    let base = "";
    let history = new History();
    let [promises, checked] = [0, 0];
    for (let generation = 0; generation < GENERATIONS; generation += 1) {
      if (generation % GENERATIONS_PER_DISK === 0) {
        base = await emptyDisk(bench);
        history = new History();
      }
      const recording = await record(bench, { base, history, clients: 3, steps: 12 });
      promises += recording.history.acknowledged() - history.acknowledged();
      // One of the crashes is survived by the disk that the next generation begins with.
      const survivor = bench.random.below(CUTS);
      for (let number = 0; number < CUTS; number += 1) {
        const cut = chooseCut(recording, bench.random);
        const aftermath = await recover(bench, recording, cut);
        expect(aftermath.violations, describeCut(recording, cut)).toEqual([]);
        checked += aftermath.present.size;
        if (number === survivor) {
          base = aftermath.disk;
          history = aftermath.history;
        } else await aftermath.discard();
      }
    }
    await annotate(
      `${GENERATIONS * CUTS} power cuts, ${promises} acknowledged writes, ${checked} paths read back whole`,
    );
  },
);

const FLUSHES: readonly Flush[] = [
  { what: "a blob's bytes", targets: /^data\/store\/tmp\/[0-9a-f]+\/\d+$/ },
  { what: "a blob's name", targets: /^data\/store\/blobs\/nar\/..\/.$/ },
  { what: "the names of folders of blobs", targets: /^data\/store\/blobs(\/nar(\/..)?)?$/ },
  { what: "the names of the store's folders", targets: /^data\/store$/ },
  { what: "the names in the data directory", targets: /^data$/ },
  { what: "the data directory's own name", targets: /^$/ },
  { what: "the key of tokens", targets: /^data\/token\.key\.tmp$/ },
  { what: "the index's log", targets: /^data\/index\.sqlite-wal$/ },
  { what: "the index's first page", targets: /^data\/index\.sqlite$/ },
  // Only after its pages were flushed may its log begin anew.
  { what: "the index's pages at a checkpoint", targets: /^data\/index\.sqlite$/, spares: 1 },
];

describe("a flush that is left out is found", () => {
  let bench: Bench & AsyncDisposable;
  let recording: Recording;
  const soundCuts: SoundCuts = new Map();

  beforeAll(async () => {
    if (reason !== undefined) return;
    bench = await makeBench("flushes");
    recording = await record(bench, {
      base: await emptyDisk(bench),
      history: new History(),
      clients: 3,
      steps: IS_LONG ? 60 : 15,
      env: { FLYWHEEL_RETENTION_SWEEP_INTERVAL: "20ms" },
    });
  });
  afterAll(() => bench?.[Symbol.asyncDispose]());

  const violationsAfter = async (
    cut: Cut,
    ignoresSync?: IgnoresSync,
  ): Promise<readonly string[]> => {
    const aftermath = await recover(bench, recording, cut, ignoresSync);
    await aftermath.discard();
    return aftermath.violations;
  };

  test.for(FLUSHES)("$what", async (flush, { skip, annotate }) => {
    if (reason !== undefined) skip(reason);
    const found = await findMissingFlush({ recording, flush, violationsAfter, soundCuts });
    expect(found, "Nobody noticed the missing flush").toBeDefined();
    expect(found?.foundWithIt, found?.cut).toEqual([]);
    await annotate(found?.clue ?? "");
  });
});
