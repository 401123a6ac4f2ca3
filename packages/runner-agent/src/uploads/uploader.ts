import { watch } from "node:fs";

import { type CacheError, describeError, type Logger } from "@glorious/core";

import type { UploadFigures } from "../statistics.ts";
import { type BatchOutcome, pushBatch } from "./push-batch.ts";
import type { Spool } from "./spool.ts";
import { createUploadQueue } from "./upload-queue.ts";

/** What a push of some paths came to. */
export interface PushedBytes {
  readonly sentBytes: number;
}

/** Options of {@link startUploader}. */
export interface UploaderOptions {
  readonly spool: Spool;
  /** The file that a change of is worth a look into the spool. */
  readonly queueFile: string;
  /** Makes these store paths with all they refer to available, or throws a {@link CacheError}. */
  readonly push: (
    paths: readonly string[],
    watch: { readonly signal: AbortSignal; readonly onProgress: () => void },
  ) => Promise<PushedBytes>;
  /** Paths that are not pushed for their own sake. */
  readonly isExcluded: (path: string) => boolean;
  /** Further paths, asked for when a drain begins; may reject. */
  readonly findMore: (signal: AbortSignal) => Promise<readonly string[]>;
  readonly onFigures: (figures: UploadFigures) => void;
  readonly logger: Logger;
  /** How often the spool is looked into without being told; default 1 s. */
  readonly pollMs?: number;
  readonly nowMs?: () => number;
}

/** What a drain came to. */
export interface DrainReport {
  readonly pushed: number;
  readonly bytes: number;
  readonly failed: number;
  /** Paths that there was no time for, or no server. */
  readonly left: number;
  /** Why some are left. */
  readonly reason?: string;
}

/** How a drain is bounded. */
export interface DrainOptions {
  readonly timeoutMs: number;
}

/** Pushes what the spool holds, in the background. */
export interface Uploader extends AsyncDisposable {
  figures(): UploadFigures;
  /** Pushes all there is, and returns when it is done or there is no point in waiting. Never rejects. */
  drain(options: DrainOptions): Promise<DrainReport>;
}

/** A drain ends when nothing has moved for so long: the server is not there. */
const STALL_MS = 20_000;
/** It ends earlier when all of so many tries failed. */
const FAILING_MS = 10_000;
const FAILING_TRIES = 2;
/** How long a drain waits between tries. */
const DRAIN_DELAY_MS = 1000;
const MAX_BATCH = 100;
const MAX_DELAY_MS = 30_000;

/** Starts pushing. */
export function startUploader(options: UploaderOptions): Uploader {
  const { spool, logger, nowMs = () => performance.now(), pollMs = 1000 } = options;
  const queue = createUploadQueue({
    random: Math.random,
    maxBatch: MAX_BATCH,
    maxDelayMs: MAX_DELAY_MS,
  });
  const counts = { queued: 0, pushed: 0, bytes: 0, skipped: 0, failed: 0 };
  const stopped = new AbortController();
  let lastProgressMs = nowMs();
  let failures = 0;
  let lastError: CacheError | undefined;
  let wake = Promise.withResolvers<void>();
  let reading = Promise.resolve();

  const whyLeft = (isLate: boolean): string =>
    lastError?.message ?? (isLate ? "There was no time left" : "Nothing moved");
  const figures = (): UploadFigures => ({ ...counts, left: queue.size });
  const progress = (): void => {
    lastProgressMs = nowMs();
    failures = 0;
  };
  const hasStalled = (): boolean => {
    const quietMs = nowMs() - lastProgressMs;
    return quietMs >= (failures >= FAILING_TRIES ? FAILING_MS : STALL_MS);
  };

  const take = async (paths: readonly string[]): Promise<void> => {
    const excluded = paths.filter(options.isExcluded);
    await spool.settle(excluded, "skipped");
    counts.skipped += excluded.length;
    const kept = paths.filter((path) => !options.isExcluded(path));
    for (const path of kept) queue.add(path);
    counts.queued += kept.length;
    if (paths.length === 0) return;
    options.onFigures(figures());
    wake.resolve();
  };
  // One after the other: who waits for a look sees all that was there when it began.
  const look = (): Promise<void> => {
    reading = reading.then(async () => {
      try {
        await take(await spool.readNew());
      } catch (error) {
        logger.warn("the queue of store paths cannot be read", { error: describeError(error) });
      }
    });
    return reading;
  };

  const settle = async (outcome: BatchOutcome, sentBytes: number): Promise<void> => {
    await spool.settle(outcome.pushed, "pushed");
    await spool.settle(outcome.gone, "gone");
    const refused = outcome.refused.map(({ path }) => path);
    await spool.settle(refused, "refused");
    const settled = [...outcome.pushed, ...outcome.gone, ...refused];
    if (settled.length > 0) {
      queue.settle(settled);
      progress();
    }
    counts.pushed += outcome.pushed.length;
    counts.failed += refused.length;
    counts.bytes += sentBytes;
    for (const { path, error } of outcome.refused) {
      logger.warn("path refused", { path, error: describeError(error) });
    }
    lastError = outcome.error ?? lastError;
    if (outcome.error !== undefined) {
      failures += 1;
      const delayMs = queue.fail(outcome.failed, nowMs());
      logger.warn("push failed", { error: describeError(outcome.error), delayMs });
    }
    options.onFigures(figures());
  };

  const pushNext = async (): Promise<void> => {
    let sentBytes = 0;
    const outcome = await pushBatch(queue.take(), async (paths) => {
      const pushed = await options.push(paths, { signal: stopped.signal, onProgress: progress });
      sentBytes += pushed.sentBytes;
    });
    await settle(outcome, sentBytes);
  };

  const work = async (): Promise<void> => {
    while (!stopped.signal.aborted) {
      const dueAtMs = queue.dueAtMs();
      const waitMs = dueAtMs === undefined ? undefined : dueAtMs - nowMs();
      if (waitMs !== undefined && waitMs <= 0) {
        await pushNext();
        continue;
      }
      const timer =
        waitMs === undefined
          ? undefined
          : setTimeout(() => wake.resolve(), Math.min(waitMs, 60_000));
      await wake.promise;
      clearTimeout(timer);
      wake = Promise.withResolvers<void>();
    }
  };

  const poll = setInterval(() => void look(), pollMs);
  const watcher = watchQuietly(options.queueFile, () => void look());
  stopped.signal.addEventListener("abort", () => wake.resolve());
  const working = work().catch((error: unknown) => {
    logger.error("uploads ended", { error: describeError(error) });
  });
  void look();

  return {
    figures,
    async drain({ timeoutMs }) {
      const deadlineMs = nowMs() + timeoutMs;
      const before = { ...counts };
      lastError = undefined;
      progress();
      await look();
      try {
        await take(await options.findMore(AbortSignal.timeout(Math.max(1, timeoutMs))));
      } catch (error) {
        logger.warn("new store paths cannot be found", { error: describeError(error) });
      }
      queue.hurry(DRAIN_DELAY_MS);
      wake.resolve();
      progress();
      while (queue.size > 0 && nowMs() < deadlineMs && !hasStalled()) {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      const left = queue.size;
      return {
        pushed: counts.pushed - before.pushed,
        bytes: counts.bytes - before.bytes,
        failed: counts.failed - before.failed,
        left,
        ...(left === 0 ? {} : { reason: whyLeft(nowMs() >= deadlineMs) }),
      };
    },
    async [Symbol.asyncDispose]() {
      clearInterval(poll);
      watcher?.close();
      stopped.abort();
      await working;
    },
  };
}

function watchQuietly(file: string, onChange: () => void): { close(): void } | undefined {
  try {
    const watcher = watch(file, onChange);
    watcher.on("error", () => watcher.close());
    return watcher;
  } catch {
    // The spool is looked into from time to time anyway.
    return undefined;
  }
}
