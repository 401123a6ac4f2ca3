/**
 * How garbage collection does with very many paths: what it takes in time and memory, and how long anybody waits
 * meanwhile. Run it with
 *
 *     node --expose-gc --conditions=source packages/cache-server/bench/collect-million.ts [paths] [directory]
 *
 * `paths` is 1 000 000 unless given. The database is made in `directory`, a temporary one unless given. What is
 * collected is gone from it afterwards.
 */
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";

import { silentLogger } from "@glorious/core";

import { createAccessRecorder } from "../src/housekeeping/access-recorder.ts";
import { type CollectionReport, createCollector } from "../src/housekeeping/collector.ts";
import type { CacheIndex } from "../src/index/cache-index.ts";
import { openSqliteIndex } from "../src/index/sqlite-index.ts";
import { CREATED_AT_MS, DAY_MS, fill, format, makeView, measure, report } from "./million-paths.ts";

const COUNT = Number(process.argv[2] ?? 1_000_000);
/** This part of the bytes is to go. More would take a closure that nearly everything belongs to. */
const SHARE_TO_GO = 0.03;

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}

/** Runs it and prints how long others waited for the event loop, and how much more memory there was. */
async function watch<Result>(what: string, run: () => Promise<Result>): Promise<Result> {
  globalThis.gc?.();
  const before = process.memoryUsage();
  let [peakBuffers, peakResident] = [before.arrayBuffers, before.rss];
  const sampler = setInterval(() => {
    const { arrayBuffers, rss } = process.memoryUsage();
    peakBuffers = Math.max(peakBuffers, arrayBuffers);
    peakResident = Math.max(peakResident, rss);
  }, 5);
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const begin = performance.now();
  const result = await run();
  report(what, format(performance.now() - begin));
  delay.disable();
  clearInterval(sampler);
  const waits = [delay.percentile(50), delay.percentile(99), delay.max].map((ns) =>
    format(ns / 1e6),
  );
  report("  event loop, with a timer's millisecond", `p50, p99, max ${waits.join(", ")}`);
  report("  arrays of numbers, at most", megabytes(peakBuffers - before.arrayBuffers));
  report(
    "  resident memory, at most, and before",
    `${megabytes(peakResident)}, ${megabytes(before.rss)}`,
  );
  return result;
}

async function measureCollection(index: CacheIndex, viewId: number): Promise<void> {
  const nowMs = CREATED_AT_MS + 100 * DAY_MS;
  const common = { index, logger: silentLogger, now: () => nowMs };
  const accesses = createAccessRecorder({ ...common, resolutionMs: 0, flushIntervalMs: DAY_MS });
  const collector = createCollector({
    fetchedNarGraceMs: 60_000,
    ...common,
    accesses,
    defaultRetentionMs: undefined,
    upstreamMaxSizeBytes: Infinity,
    capOf: async () => Infinity,
    accessResolutionMs: 0,
    narGraceMs: DAY_MS,
    intervalMs: DAY_MS,
    onCollected: () => {},
  });
  const show = ({ examined, deleted, freedBytes }: CollectionReport): void =>
    report("  examined, deleted, freed", `${examined}, ${deleted}, ${megabytes(freedBytes)}`);

  // The popular ones are old and needed still: what goes is what nothing younger needs.
  const retentionMs = nowMs - CREATED_AT_MS - COUNT * 0.97;
  await index.updateView("main", { retentionSeconds: Math.floor(retentionMs / 1000) });
  show(await watch("dry run", () => collector.collect("main", { isDryRun: true })));
  const { fileBytes } = await index.viewStats(viewId);
  await index.updateView("main", {
    retentionSeconds: "default",
    maxSizeBytes: Math.floor(fileBytes * (1 - SHARE_TO_GO)),
  });
  show(
    await watch(`collection of ${100 * SHARE_TO_GO} % of the bytes`, () =>
      collector.collect("main", { isDryRun: false }),
    ),
  );
  await measure("deleteView", 1, () => index.deleteView("main"));
  await measure("purgeDeletedViews, 1000 rows", 200, () => index.purgeDeletedViews(1000));
}

const given = process.argv[3];
const directory = given ?? (await mkdtemp(join(tmpdir(), "collect-million-")));
await mkdir(directory, { recursive: true });
try {
  await using index = await openSqliteIndex({ file: join(directory, "index.sqlite") });
  let view = await index.findView("main");
  if (view === undefined) {
    const begin = performance.now();
    await fill(index, await makeView(index), { from: 0, to: COUNT });
    report(`fill with ${COUNT} paths`, format(performance.now() - begin));
    view = await index.findView("main");
  }
  await measureCollection(index, view?.id ?? 0);
} finally {
  if (given === undefined) await rm(directory, { recursive: true, force: true });
}
