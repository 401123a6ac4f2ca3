import type { Logger } from "@glorious/core";
import type { BlobStore } from "@glorious/storage";

import type { CacheIndex } from "../index/cache-index.ts";
import type { ScrubBazel } from "./bazel-scrub.ts";
import { createPacer } from "./pacer.ts";
import type { Quarantine } from "./quarantine.ts";
import { beginProgress, runScrubPass, type ScrubProgress, scrubStopped } from "./scrub-pass.ts";

/** A pass through the stored objects, under way or ended. */
export interface ScrubRun {
  /** Somebody asked for it; otherwise it is one of those that the server makes by itself. */
  readonly isRequested: boolean;
  readonly progress: Readonly<ScrubProgress>;
  readonly state: "running" | "done" | "stopped" | "failed";
  readonly endedAtMs: number | undefined;
}

export interface ScrubRequest {
  /** Reads what was not checked since then. */
  readonly checkedBeforeMs: number;
  /** An earlier pass with this bound is good enough, if it got to its end. */
  readonly isContinued?: boolean;
  /** How fast; by default as configured. */
  readonly bytesPerSecond?: number | undefined;
}

/** Reads stored objects again and again, and finds those that are not what was stored. */
export interface Scrubber {
  /** Begins to make passes by itself. */
  start(): void;
  /**
   * The requested pass that is under way, or the end of the one that is continued, or else a new one. A new one takes
   * the place of a pass of the server's own.
   */
  request(request: ScrubRequest): ScrubRun;
  /** The pass under way that somebody asked for. */
  requested(): ScrubRun | undefined;
  /** The pass under way, or the last one. */
  latest(): ScrubRun | undefined;
  /** When a pass last reached the end. */
  lastFullPassAtMs(): number | undefined;
  /** Resolves when the present pass ends, or after a while. */
  wait(durationMs: number, signal: AbortSignal): Promise<void>;
  stop(): Promise<void>;
}

export interface ScrubberOptions {
  readonly index: CacheIndex;
  readonly store: BlobStore;
  readonly quarantine: Quarantine;
  /** Does the same for the Bazel data; absent where there is none. */
  readonly scrubBazel?: ScrubBazel | undefined;
  readonly logger: Logger;
  readonly now: () => number;
  /** How old an object's last check may become; 0 makes no pass without a request. */
  readonly intervalMs: number;
  readonly bytesPerSecond: number;
  readonly onScanned: (bytes: number) => void;
  readonly onFullPass: (atMs: number) => void;
}

const DAY_MS = 24 * 3_600_000;
/** A start has better things to do. */
const FIRST_PASS_DELAY_MS = 60_000;

interface Run {
  isRequested: boolean;
  progress: ScrubProgress;
  state: ScrubRun["state"];
  endedAtMs: number | undefined;
  stopping: AbortController;
  ended: Promise<void>;
}

export function createScrubber(options: ScrubberOptions): Scrubber {
  const { logger, now, intervalMs } = options;
  // Passes look at everything and read little: an object's check is late by no more than this.
  const passIntervalMs = Math.min(DAY_MS, Math.max(1000, intervalMs / 30));
  let latest: Run | undefined;
  let lastFullPassAtMs: number | undefined;
  let isStopped = false;
  let timer: NodeJS.Timeout | undefined;

  const run = async (current: Run, before: Run | undefined, rate: number): Promise<void> => {
    before?.stopping.abort(scrubStopped());
    await before?.ended;
    const { progress, stopping } = current;
    const { signal } = stopping;
    try {
      signal.throwIfAborted();
      const pace = createPacer(rate, signal);
      await runScrubPass(progress, { ...options, pace, signal });
      const { checkedBeforeMs, bazel } = progress;
      const { scrubBazel, onScanned } = options;
      if (scrubBazel === undefined) bazel.fraction = 1;
      else await scrubBazel(bazel, { checkedBeforeMs, pace, signal, onScanned });
      current.state = "done";
      lastFullPassAtMs = now();
      options.onFullPass(lastFullPassAtMs);
    } catch (error) {
      current.state = signal.aborted ? "stopped" : "failed";
      if (!signal.aborted) logger.error("the scrub failed", { error });
    }
    current.endedAtMs = now();
    const { scanned, bytes, badTotal: bad, restored, unanswered, orphans } = progress;
    const { scanned: bazelScanned, bytes: bazelBytes, badTotal: bazelBad } = progress.bazel;
    if (current.isRequested || scanned + bazelScanned > 0) {
      const fields = { state: current.state, scanned, bytes, bad, restored, unanswered };
      const bazel = { bazelScanned, bazelBytes, bazelBad };
      logger.info("a scrub ended", { ...fields, ...bazel, orphans: orphans?.files });
    }
  };

  const begin = (isRequested: boolean, request: ScrubRequest): Run => {
    const before = latest;
    const begun: Run = {
      isRequested,
      progress: beginProgress(now(), request.checkedBeforeMs),
      state: "running",
      endedAtMs: undefined,
      stopping: new AbortController(),
      ended: Promise.resolve(),
    };
    if (isStopped) begun.stopping.abort(scrubStopped());
    latest = begun;
    begun.ended = run(begun, before, request.bytesPerSecond ?? options.bytesPerSecond);
    return begun;
  };

  const schedule = (delayMs: number): void => {
    timer = setTimeout(() => {
      if (latest?.state !== "running") begin(false, { checkedBeforeMs: now() - intervalMs });
      schedule(passIntervalMs);
    }, delayMs);
    timer.unref();
  };

  const requested = (): Run | undefined =>
    latest?.isRequested === true && latest.state === "running" ? latest : undefined;

  return {
    start() {
      if (intervalMs > 0) schedule(Math.min(FIRST_PASS_DELAY_MS, passIntervalMs));
    },
    request(request) {
      const isDone =
        request.isContinued === true &&
        latest?.isRequested === true &&
        latest.state === "done" &&
        latest.progress.checkedBeforeMs >= request.checkedBeforeMs;
      return requested() ?? (isDone && latest !== undefined ? latest : begin(true, request));
    },
    requested,
    latest: () => latest,
    lastFullPassAtMs: () => lastFullPassAtMs,
    async wait(durationMs, signal) {
      const waited = Promise.withResolvers<void>();
      const end = (): void => waited.resolve();
      const waiting = setTimeout(end, durationMs);
      signal.addEventListener("abort", end, { once: true });
      if (signal.aborted) end();
      await Promise.race([waited.promise, latest?.ended]);
      clearTimeout(waiting);
      signal.removeEventListener("abort", end);
    },
    async stop() {
      isStopped = true;
      clearTimeout(timer);
      latest?.stopping.abort(scrubStopped());
      await latest?.ended;
    },
  };
}
