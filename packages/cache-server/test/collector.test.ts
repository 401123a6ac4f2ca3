import { silentLogger } from "@glorious/core";
import fc from "fast-check";
import { expect, test } from "vitest";

import { type AccessRecorder, createAccessRecorder } from "../src/housekeeping/access-recorder.ts";
import {
  type CollectionReport,
  type Collector,
  createCollector,
} from "../src/housekeeping/collector.ts";
import type { CacheIndex } from "../src/index/cache-index.ts";
import { openSqliteIndex } from "../src/index/sqlite-index.ts";
import { sampleObject, samplePath, storePathHashOf } from "./index/index-samples.ts";
import { addView, hold, NOW } from "./index/index-setup.ts";

const HOUR_MS = 3_600_000;

interface CollectorSetup {
  readonly collector: Collector;
  readonly accesses: AccessRecorder;
  readonly reports: (CollectionReport | undefined)[];
}

function createTestCollector(index: CacheIndex, nowMs: () => number): CollectorSetup {
  const reports: (CollectionReport | undefined)[] = [];
  const common = { index, logger: silentLogger, now: nowMs };
  const accesses = createAccessRecorder({
    ...common,
    resolutionMs: HOUR_MS,
    flushIntervalMs: HOUR_MS,
  });
  const collector = createCollector({
    fetchedNarGraceMs: 60_000,
    ...common,
    accesses,
    defaultRetentionMs: undefined,
    upstreamMaxSizeBytes: Infinity,
    capOf: async () => Infinity,
    accessResolutionMs: HOUR_MS,
    narGraceMs: HOUR_MS,
    intervalMs: HOUR_MS,
    onCollected: (report) => reports.push(report),
  });
  return { collector, accesses, reports };
}

/** The same index, with its graph read by another function. */
function withListGraph(index: CacheIndex, listGraph: CacheIndex["listGraph"]): CacheIndex {
  return new Proxy(index, {
    get(target, name) {
      if (name === "listGraph") return listGraph;
      const value: unknown = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

interface SamplePath {
  readonly references: readonly number[];
  readonly ageHours: number;
}

/** Commits paths named by their numbers, each used as long ago as it says. */
async function commit(
  index: CacheIndex,
  viewId: number,
  paths: readonly SamplePath[],
): Promise<void> {
  await hold(index, viewId, ...paths.map((_, number) => String(number)));
  const result = await index.commitPaths(
    viewId,
    paths.map(({ references, ageHours }, number) =>
      samplePath(String(number), {
        references: references.map((other) => `${storePathHashOf(String(other))}-${other}`),
        createdAtMs: NOW - ageHours * HOUR_MS,
      }),
    ),
  );
  expect(result).toMatchObject({ kind: "committed" });
}

async function presentNumbers(index: CacheIndex, viewId: number): Promise<number[]> {
  const graph = await index.listGraph(viewId, { limit: 1000 });
  const hashes = new Set(graph.map(({ storePathHash }) => storePathHash));
  return Array.from({ length: 100 }, (_, number) => number).filter((number) =>
    hashes.has(storePathHashOf(String(number))),
  );
}

const view = fc.record({
  paths: fc.array(
    fc.record({
      references: fc.array(fc.nat(15), { maxLength: 3 }),
      ageHours: fc.integer({ min: 0, max: 60 }),
    }),
    { minLength: 1, maxLength: 14 },
  ),
  pins: fc.array(fc.nat(13), { maxLength: 2 }),
  retentionSeconds: fc.option(fc.integer({ min: 3600, max: 50 * 3600 }), { nil: undefined }),
  maxSizeBytes: fc.option(fc.nat(1800), { nil: undefined }),
});

test("a dry run says what is then done; what stays is complete; a second collection finds nothing", async () => {
  await fc.assert(
    fc.asyncProperty(view, async ({ paths, pins, ...limits }) => {
      await using index = await openSqliteIndex({ file: ":memory:" });
      const { id } = await addView(index);
      await commit(index, id, paths);
      for (const number of pins.filter((pin) => pin < paths.length)) {
        const { storePathHash, storePath } = samplePath(String(number));
        const facts = { createdAtMs: NOW, createdBy: undefined };
        await index.putPin(id, { name: `pin${number}`, storePathHash, storePath, ...facts });
      }
      await index.updateView("main", {
        retentionSeconds: limits.retentionSeconds ?? "default",
        maxSizeBytes: limits.maxSizeBytes ?? "default",
      });
      const { collector } = createTestCollector(index, () => NOW);
      const before = await presentNumbers(index, id);

      const { durationMs: _, ...said } = await collector.collect("main", { isDryRun: true });
      expect(await presentNumbers(index, id)).toEqual(before);
      const done = await collector.collect("main", { isDryRun: false });
      const after = await presentNumbers(index, id);

      expect(done).toMatchObject({ ...said, isDryRun: false, spared: 0 });
      expect(after).toHaveLength(before.length - done.deleted);
      for (const number of after) {
        const needed = paths[number]?.references.filter((other) => before.includes(other)) ?? [];
        expect(after).toEqual(expect.arrayContaining(needed));
      }
      for (const pin of pins) if (pin < paths.length) expect(after).toContain(pin);
      const again = await collector.collect("main", { isDryRun: false });
      expect(again).toMatchObject({ deleted: 0, freedBytes: 0 });
      expect(await index.checkConsistency()).toEqual([]);
    }),
    { numRuns: 150 },
  );
});

test("what is used, pinned or referred to while the collection is under way stays", async () => {
  await using index = await openSqliteIndex({ file: ":memory:" });
  const { id } = await addView(index);
  const length = 1500;
  // Every path alone, except that 1 refers to 2.
  await commit(
    index,
    id,
    Array.from({ length }, (_, number) => ({
      references: number === 1 ? [2] : [],
      ageHours: 100 + (number % 7),
    })),
  );
  await index.updateView("main", { retentionSeconds: 3600 });
  let pages = 0;
  const { collector, accesses } = createTestCollector(
    withListGraph(index, async (...page) => {
      const nodes = await index.listGraph(...page);
      pages += 1;
      if (nodes.length > 0) return nodes;
      // The graph has been read, and nothing is gone yet.
      void accesses.usePath(id, storePathHashOf("1"));
      await hold(index, id, "new");
      const needs = [`${storePathHashOf("3")}-3`];
      await index.commitPaths(id, [samplePath("new", { references: needs, createdAtMs: NOW })]);
      const { storePathHash, storePath } = samplePath("4");
      const facts = { createdAtMs: NOW, createdBy: undefined };
      await index.putPin(id, { name: "late", storePathHash, storePath, ...facts });
      return nodes;
    }),
    () => NOW,
  );

  const report = await collector.collect("main", { isDryRun: false });

  expect(pages).toBe(7);
  expect(report).toMatchObject({ examined: length, deleted: length - 4, spared: 3 });
  expect(await presentNumbers(index, id)).toEqual([1, 2, 3, 4]);
  const { fileSize } = sampleObject("1");
  expect(report.remainingBytes).toBe(4 * fileSize);
});

test("collections come one after the other; those that wait for the same share it", async () => {
  await using index = await openSqliteIndex({ file: ":memory:" });
  const { id } = await addView(index);
  await commit(index, id, [{ references: [], ageHours: 100 }]);
  await index.updateView("main", { retentionSeconds: 3600 });
  const { collector, reports } = createTestCollector(index, () => NOW);
  const collect = (): Promise<CollectionReport> => collector.collect("main", { isDryRun: false });

  const first = collect();
  await Promise.resolve();
  await Promise.resolve();
  const [second, third] = [collect(), collect()];

  expect(await first).toMatchObject({ deleted: 1 });
  expect(await second).toMatchObject({ deleted: 0 });
  expect(await third).toBe(await second);
  expect(reports).toHaveLength(2);
});

test("a view that is gone is NOT_FOUND, and a stopped collector has nothing begun", async () => {
  await using index = await openSqliteIndex({ file: ":memory:" });
  await addView(index);
  const { collector, reports } = createTestCollector(index, () => NOW);
  await expect(collector.collect("other", { isDryRun: false })).rejects.toMatchObject({
    code: "NOT_FOUND",
  });
  const running = collector.collect("main", { isDryRun: false });
  running.catch(() => {});
  await collector.stop();
  await expect(collector.collect("main", { isDryRun: false })).rejects.toMatchObject({
    code: "CANCELLED",
  });
  expect(reports.filter((report) => report === undefined)).toEqual([]);
});
