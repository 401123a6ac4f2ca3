import type { Logger } from "@glorious/core";
import type { BlobStore } from "@glorious/storage";

import type { CacheIndex } from "../index/cache-index.ts";
import { objectKey } from "../ingest/object-key.ts";
import { expireOverlays } from "./expire-overlays.ts";
import { sweepPartUploads } from "./sweep-part-uploads.ts";

export interface SweeperOptions {
  readonly index: CacheIndex;
  readonly store: BlobStore;
  readonly logger: Logger;
  readonly now: () => number;
  readonly objectGraceMs: number;
  /** How long an upstream's answer about a path is worth keeping. */
  readonly upstreamPathMaxAgeMs: number;
}

/** What one sweep removed. */
export interface SweepResult {
  readonly holdings: number;
  readonly uploadedFiles: number;
  readonly objects: number;
  readonly partUploads: number;
}

const ROWS_PER_STEP = 1000;
const OBJECTS_PER_STEP = 100;
/** Of all upstreams together; some 2 KB each. */
const MAX_UPSTREAM_PATHS = 500_000;

/**
 * Removes overlays past their retention, what deleted views knew, and what has expired: NARs that no path came for,
 * files that Nix uploaded long ago, what upstreams said long ago, and then the objects that nothing refers to any more. In small steps, so that others are served in between; what a crash
 * interrupts, the next sweep ends.
 */
export async function sweep(options: SweeperOptions, signal: AbortSignal): Promise<SweepResult> {
  const { index, store, logger, now, objectGraceMs } = options;
  const total = { holdings: 0, uploadedFiles: 0, objects: 0, partUploads: 0 };
  await expireOverlays(options, signal);
  let rows = 0;
  for (let purged = -1; purged !== 0; rows += purged) {
    signal.throwIfAborted();
    purged = await index.purgeDeletedViews(ROWS_PER_STEP);
  }
  if (rows > 0) logger.info("removed what deleted views knew", { rows });
  for (;;) {
    signal.throwIfAborted();
    const expired = await index.expire(now(), ROWS_PER_STEP);
    total.holdings += expired.holdings;
    total.uploadedFiles += expired.uploadedFiles;
    if (Math.max(expired.holdings, expired.uploadedFiles, expired.revocations) < ROWS_PER_STEP)
      break;
  }
  for (;;) {
    signal.throwIfAborted();
    const claimed = await index.claimUnreferencedObjects(now() - objectGraceMs, OBJECTS_PER_STEP);
    for (const fileHash of claimed) await store.delete(objectKey(fileHash));
    await index.removeClaimedObjects(claimed);
    total.objects += claimed.length;
    if (claimed.length < OBJECTS_PER_STEP) break;
  }
  for (let trimmed = -1; trimmed !== 0;) {
    signal.throwIfAborted();
    const checkedBeforeMs = now() - options.upstreamPathMaxAgeMs;
    trimmed = await index.trimUpstreamPaths(checkedBeforeMs, MAX_UPSTREAM_PATHS, ROWS_PER_STEP);
  }
  total.partUploads = await sweepPartUploads(options, signal);
  if (Object.values(total).some((count) => count > 0)) {
    logger.info("removed what had expired", total);
  }
  return total;
}

/** Sweeps that run by themselves, one at a time. */
export interface Sweeper {
  /** Something expires after this: sweeps then as well, once for all who ask meanwhile. */
  sweepAfter(delayMs: number): void;
  stop(): Promise<void>;
}

/** Sweeps now and then until stopped. A failed sweep is logged; the next one tries again. */
export function startSweeper(
  options: SweeperOptions & {
    readonly intervalMs: number;
    /** How long it is kept who read what, and who wrote what is there no more. */
    readonly provenanceMaxAgeMs: number;
    readonly onSwept: (result: SweepResult) => void;
  },
): Sweeper {
  const stopping = new AbortController();
  let running: Promise<void> = Promise.resolve();
  const { index, now, provenanceMaxAgeMs } = options;
  let provenanceDueMs = 0;
  /** Once a day: it looks at everything old. */
  const forgetProvenance = async (): Promise<void> => {
    if (now() < provenanceDueMs) return;
    provenanceDueMs = now() + 24 * 3_600_000;
    while ((await index.forgetProvenance(now() - provenanceMaxAgeMs, ROWS_PER_STEP)) > 0) {
      stopping.signal.throwIfAborted();
    }
  };
  const run = async (): Promise<void> => {
    try {
      await forgetProvenance();
      options.onSwept(await sweep(options, stopping.signal));
    } catch (error) {
      if (!stopping.signal.aborted) options.logger.error("the sweep failed", { error });
    }
  };
  const timer = setInterval(() => {
    running = running.then(run);
  }, options.intervalMs);
  timer.unref();
  /** When, and until then; the later one waits for its own. */
  let extra: NodeJS.Timeout | undefined;
  let isAskedAgain = false;
  const sweepAfter = (delayMs: number): void => {
    isAskedAgain = extra !== undefined;
    if (isAskedAgain || stopping.signal.aborted) return;
    extra = setTimeout(() => {
      extra = undefined;
      running = running.then(run);
      if (isAskedAgain) sweepAfter(delayMs);
    }, delayMs);
    extra.unref();
  };
  return {
    sweepAfter,
    async stop() {
      clearInterval(timer);
      clearTimeout(extra);
      stopping.abort();
      await running;
    },
  };
}
