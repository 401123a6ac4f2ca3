import { rm } from "node:fs/promises";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import {
  type BazelBench,
  type BazelRecording,
  emptyDisk,
  makeBench,
  recordBazel,
  recoverBazel,
} from "./bazel-power-cut.ts";
import type { IgnoresSync } from "./disk/disk-model.ts";
import { BazelHistory } from "./history/bazel-history.ts";
import { findMissingFlush, type Flush, type SoundCuts } from "./missing-flush.ts";
import { chooseCut, type Cut, describeCut, type DiskRecording, recordDisk } from "./power-cut.ts";
import { buildRecorder } from "./recorder/build-recorder.ts";
import { IS_LONG } from "./scale.ts";
import { createBlob, putEntry } from "./traffic/bazel-traffic.ts";

const built = await buildRecorder();
const reason = "missing" in built ? `no power cuts: ${built.missing}` : undefined;
const [GENERATIONS, CUTS] = IS_LONG ? [25, 10] : [2, 5];

test(
  "whenever the power goes, Bazel's acknowledged data is there afterwards, and what is there is whole",
  { timeout: IS_LONG ? 3_600_000 : 120_000 },
  async ({ skip, annotate }) => {
    if (reason !== undefined) skip(reason);
    await using bench = await makeBench("Bazel generations");
    let base = await emptyDisk(bench);
    let history = new BazelHistory();
    const totals = { promises: 0, checked: 0, packs: 0, packsGone: 0 };
    for (let generation = 0; generation < GENERATIONS; generation += 1) {
      const recording = await recordBazel(bench, { base, history, steps: 9 });
      totals.promises += recording.history.acknowledged() - history.acknowledged();
      totals.packs += countPacks(recording, "rename");
      totals.packsGone += countPacks(recording, "unlink");
      // One of the crashes is survived by the disk that the next generation begins with.
      const survivor = bench.random.below(CUTS);
      for (let number = 0; number < CUTS; number += 1) {
        const cut = chooseCut(recording, bench.random);
        const aftermath = await recoverBazel(bench, recording, cut);
        expect(aftermath.violations, describeCut(recording, cut)).toEqual([]);
        totals.checked += aftermath.present.size;
        if (number === survivor) ({ disk: base, history } = aftermath);
        else await rm(aftermath.disk, { recursive: true });
      }
    }
    expect(totals.packs).toBeGreaterThan(totals.packsGone);
    expect(totals.packsGone).toBeGreaterThan(0);
    await annotate(
      `${GENERATIONS * CUTS} power cuts, ${totals.promises} acknowledged changes, ${totals.checked} entries read back ` +
        `whole; meanwhile ${totals.packs} packs were written and ${totals.packsGone} deleted`,
    );
  },
);

test("a file whose upload was cut off is deleted by the next start, though nothing else was stored since the last one", async ({
  skip,
}) => {
  if (reason !== undefined) skip(reason);
  await using bench = await makeBench("Bazel orphan");
  const first = await recordBazel(bench, {
    base: await emptyDisk(bench),
    history: new BazelHistory(),
    steps: 3,
  });
  const { disk: base } = await recoverBazel(bench, first, { at: Infinity, loss: "none" });
  let history = new BazelHistory();
  const recording = await recordDisk(bench, { base }, async ({ target }, note) => {
    history = new BazelHistory().withListener(note);
    await putEntry(target, createBlob(bench.random, 40_000), history);
  });
  const named = recording.operations.findIndex(
    (operation) => operation.kind === "rename" && operation.to.includes("/blobs/cas/"),
  );
  const flushed = recording.operations.findIndex(
    ({ kind }, at) => at > named && kind === "sync-end",
  );
  expect(named).toBeGreaterThan(0);

  const cut: Cut = { at: flushed + 1, loss: "all" };
  const { violations } = await recoverBazel(bench, { ...recording, history }, cut);

  expect(violations, describeCut(recording, cut)).toEqual([]);
});

/** Packs that got their name, or lost it. */
function countPacks({ operations }: DiskRecording, kind: "rename" | "unlink"): number {
  return operations.filter((operation) => {
    const name = operation.kind === "rename" ? operation.to : "";
    const gone = operation.kind === "unlink" ? operation.path : "";
    return /\/packs\/[\d-]+$/.test(kind === "rename" ? name : gone);
  }).length;
}

const BAZEL = "^data/tenants/_default/bazel";
const FLUSHES: readonly Flush[] = [
  { what: "a pack's bytes", targets: new RegExp(`${BAZEL}/packs/[0-9a-f]+\\.tmp$`) },
  { what: "a pack's name", targets: new RegExp(`${BAZEL}/packs$`) },
  { what: "a blob's bytes", targets: new RegExp(`${BAZEL}/store/tmp/[0-9a-f]+/\\d+$`) },
  { what: "a blob's name", targets: new RegExp(`${BAZEL}/store/blobs/cas/../.$`) },
  {
    what: "the names of folders of blobs",
    targets: new RegExp(`${BAZEL}/store/blobs(/cas(/..)?)?$`),
  },
  { what: "the names of the store's folders", targets: new RegExp(`${BAZEL}/store$`) },
  { what: "the names in the tenant's folder", targets: new RegExp(`${BAZEL}$`) },
  { what: "the tenant's folders' names", targets: /^data\/tenants(\/_default)?$/ },
  { what: "the index's log", targets: new RegExp(`${BAZEL}/index\\.sqlite-wal$`) },
  { what: "the index's first page", targets: new RegExp(`${BAZEL}/index\\.sqlite$`) },
];

describe("a flush of Bazel's data that is left out is found", () => {
  let bench: BazelBench;
  let recording: BazelRecording;
  const soundCuts: SoundCuts = new Map();

  beforeAll(async () => {
    if (reason !== undefined) return;
    bench = await makeBench("Bazel flushes");
    const base = await emptyDisk(bench);
    recording = await recordBazel(bench, { base, history: new BazelHistory(), steps: 9 });
  });
  afterAll(() => bench?.[Symbol.asyncDispose]());

  const violationsAfter = async (
    cut: Cut,
    ignoresSync?: IgnoresSync,
  ): Promise<readonly string[]> => {
    const { disk, violations } = await recoverBazel(bench, recording, cut, ignoresSync);
    await rm(disk, { recursive: true });
    return violations;
  };

  test.for(FLUSHES)("$what", async (flush, { skip, annotate }) => {
    if (reason !== undefined) skip(reason);
    const found = await findMissingFlush({ recording, flush, violationsAfter, soundCuts });
    expect(found, "Nobody noticed the missing flush").toBeDefined();
    expect(found?.foundWithIt, found?.cut).toEqual([]);
    await annotate(found?.clue ?? "");
  });
});
