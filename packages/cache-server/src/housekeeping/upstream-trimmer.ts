import { describeError, isCacheError, type Logger } from "@glorious/core";

import type { CacheIndex } from "../index/cache-index.ts";
import type { UpstreamRecord } from "../index/upstream-index.ts";
import type { Collector } from "./collector.ts";

/** Gives room back soon when more was fetched from an upstream than may be kept, and not only at the next collection. */
export interface UpstreamTrimmer {
  /** So many bytes were fetched from it and stored. */
  note(upstream: TrimmedUpstream, storedBytes: number): void;
  stop(): Promise<void>;
}

type TrimmedUpstream = Pick<UpstreamRecord, "name" | "viewId" | "maxSizeBytes">;

export interface UpstreamTrimmerOptions {
  readonly index: Pick<CacheIndex, "viewBytes">;
  readonly collector: Pick<Collector, "collectUpstream">;
  readonly logger: Logger;
  /** What may be kept of an upstream that has no limit of its own. */
  readonly maxSizeBytes: number;
  /** How long what is fetched together is waited for. */
  readonly delayMs: number;
  /** Told when something was deleted. */
  readonly onTrimmed: () => void;
}

/** A collection reads the whole view: that is not done all the time. */
const PAUSE_PER_WORK = 10;

export function createUpstreamTrimmer(options: UpstreamTrimmerOptions): UpstreamTrimmer {
  const { index, collector, logger, delayMs } = options;
  const timers = new Map<string, NodeJS.Timeout>();
  const running = new Set<Promise<void>>();
  /** By hidden view: what its paths still had after the last collection, and what was stored since. */
  const sizes = new Map<number, number>();
  const pausesMs = new Map<string, number>();
  let isStopping = false;

  const trim = async (upstream: TrimmedUpstream): Promise<void> => {
    const { name, viewId, maxSizeBytes = options.maxSizeBytes } = upstream;
    try {
      // What was collected counts for the view until its grace is over.
      const sizeBytes = sizes.get(viewId) ?? (await index.viewBytes(viewId));
      sizes.set(viewId, sizeBytes);
      if (sizeBytes <= maxSizeBytes) return;
      sizes.set(viewId, 0);
      const report = await collector.collectUpstream(name, { isDryRun: false });
      const { deleted, durationMs, remainingBytes } = report;
      sizes.set(viewId, remainingBytes + (sizes.get(viewId) ?? 0));
      pausesMs.set(name, durationMs * PAUSE_PER_WORK);
      if (deleted > 0) options.onTrimmed();
    } catch (error) {
      // Removed meanwhile.
      if (isStopping || isCacheError(error, "NOT_FOUND")) return;
      logger.error("the room of an upstream could not be given back", {
        upstream: name,
        error: describeError(error),
      });
    }
  };

  return {
    note(upstream, storedBytes) {
      const { name, viewId } = upstream;
      const before = sizes.get(viewId);
      if (before !== undefined) sizes.set(viewId, before + storedBytes);
      if (isStopping || timers.has(name)) return;
      const timer = setTimeout(
        () => {
          timers.delete(name);
          const ended = trim(upstream).finally(() => running.delete(ended));
          running.add(ended);
        },
        Math.max(delayMs, pausesMs.get(name) ?? 0),
      );
      timer.unref();
      timers.set(name, timer);
    },
    async stop() {
      isStopping = true;
      for (const timer of timers.values()) clearTimeout(timer);
      await Promise.all(running);
    },
  };
}
