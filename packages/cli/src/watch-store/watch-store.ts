import { type FSWatcher, watch } from "node:fs";

import { CacheError } from "@glorious/core";
import {
  type BatchOutcome,
  createUploadQueue,
  isWorthPushing,
  type LocalStore,
  lockedName,
  type NameRules,
  pushBatch,
} from "@glorious/runner-agent";

import type { WatchEvent } from "./watch-events.ts";

/** Options of {@link watchStore}. */
export interface WatchStoreOptions {
  readonly store: LocalStore;
  readonly rules: NameRules;
  /** Makes these store paths with all they refer to available, or throws a {@link CacheError}. */
  readonly push: (paths: readonly string[], signal: AbortSignal) => Promise<void>;
  readonly emit: (event: WatchEvent) => void;
  /** Called once, when every path that becomes valid from now on will be seen. */
  readonly onReady: () => void;
  /** Begins the drain: what is new is pushed, then the watch ends. */
  readonly signal: AbortSignal;
  /** How long the drain may take. */
  readonly drainMs: number;
  /** Ends by itself when nothing was new and nothing waited for so long. */
  readonly quietForMs: number | undefined;
  /** How often Nix is asked for all paths, in case the watch of the folder missed some. */
  readonly pollMs: number;
  readonly nowMs: () => number;
  /** A number in [0, 1). */
  readonly random: () => number;
}

/** What a watch did. */
export interface WatchResult {
  readonly pushed: number;
  readonly refused: number;
  /** Full store paths that the drain had no time for. */
  readonly unpushed: readonly string[];
}

/** How long the drain waits before it tries again. */
const DRAIN_DELAY_MS = 1000;
/** A path is looked at when nothing has changed for this long … */
const QUIET_MS = 2000;
/** … or at the latest after this long. */
const MAX_WAIT_MS = 10_000;

/**
 * Pushes what becomes valid in the local store, until the signal fires.
 *
 * Two things tell of new paths: the removal of a path's lock file, at once; and the list of all valid
 * paths, now and then, because the kernel drops events when there are too many. What was valid before
 * is left alone. A path that could not be pushed waits for the next try, for ever if need be.
 *
 * @throws {CacheError} when the store cannot be watched or listed at the start.
 */
export async function watchStore(options: WatchStoreOptions): Promise<WatchResult> {
  const { store, rules, emit, signal, nowMs } = options;
  const queue = createUploadQueue({ random: options.random });
  const alarm = createAlarm();
  /** Names whose lock changed, to be looked at once it is quiet. */
  const touched = new Set<string>();
  let firstTouchMs = 0;
  let lastTouchMs = 0;
  let pushed = 0;
  let refused = 0;
  let lastActivityMs = nowMs();
  /** Fires when the drain has no time left. */
  const deadline = new AbortController();

  const isDue = (): boolean =>
    touched.size > 0 && nowMs() >= Math.min(lastTouchMs + QUIET_MS, firstTouchMs + MAX_WAIT_MS);
  const touch = (fileName: string): void => {
    const name = lockedName(fileName);
    if (name === undefined || !isWorthPushing(name, rules)) return;
    lastTouchMs = nowMs();
    if (touched.size === 0) firstTouchMs = lastTouchMs;
    touched.add(name);
    alarm.ring();
  };

  using watcher = watchFolder(store.storeDir, touch, (message) =>
    emit({ type: "warning", message }),
  );
  // After the watch began, so that nothing falls between the two.
  let known = await store.listValid();
  let nextPollMs = nowMs() + options.pollMs;
  options.onReady();

  const settleTouched = async (): Promise<void> => {
    const names = [...touched];
    touched.clear();
    const valid = await store.keepValid(names).catch((error: unknown) => {
      for (const name of names) touched.add(name);
      firstTouchMs = lastTouchMs = nowMs();
      throw error;
    });
    for (const name of valid) {
      queue.add(`${store.storeDir}/${name}`);
      known.add(name);
      lastActivityMs = nowMs();
    }
  };
  const poll = async (): Promise<void> => {
    nextPollMs = nowMs() + options.pollMs;
    const valid = await store.listValid();
    for (const name of valid) {
      if (known.has(name) || touched.has(name) || !isWorthPushing(name, rules)) continue;
      queue.add(`${store.storeDir}/${name}`);
      lastActivityMs = nowMs();
    }
    known = valid;
  };
  /** Nix being unable to answer for a moment must not end the watch. */
  const look = async (work: () => Promise<void>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      if (!(error instanceof CacheError)) throw error;
      emit({ type: "warning", message: error.message });
    }
  };
  const report = (outcome: BatchOutcome): void => {
    pushed += outcome.pushed.length;
    refused += outcome.refused.length;
    const settled = [
      ...outcome.pushed,
      ...outcome.gone,
      ...outcome.refused.map(({ path }) => path),
    ];
    if (settled.length > 0) queue.settle(settled);
    for (const storePath of outcome.gone) emit({ type: "gone", storePath });
    for (const { path, error } of outcome.refused) {
      emit({ type: "refused", storePath: path, code: error.code, message: error.message });
    }
    lastActivityMs = nowMs();
    const { error } = outcome;
    if (error === undefined) return;
    const delayMs = queue.fail(outcome.failed, nowMs());
    if (deadline.signal.aborted) return;
    const { code, message } = error;
    emit({ type: "retry", waiting: queue.size, delayMs, code, message });
  };

  let deadlineTimer: NodeJS.Timeout | undefined;
  const beginDrain = async (): Promise<void> => {
    deadlineTimer = setTimeout(() => {
      deadline.abort();
      alarm.ring();
    }, options.drainMs);
    watcher.close();
    await look(settleTouched);
    await look(poll);
    queue.hurry(DRAIN_DELAY_MS);
    emit({ type: "draining", waiting: queue.size, atMostMs: options.drainMs });
  };
  let isDraining = false;
  const onStop = (): void => alarm.ring();
  signal.addEventListener("abort", onStop);

  try {
    for (;;) {
      if (signal.aborted && !isDraining) {
        isDraining = true;
        await beginDrain();
      }
      if (isDraining && (queue.size === 0 || deadline.signal.aborted)) break;
      if (isDue()) await look(settleTouched);
      if (!isDraining && nowMs() >= nextPollMs) await look(poll);
      const dueAtMs = queue.dueAtMs();
      if (dueAtMs !== undefined && nowMs() >= dueAtMs) {
        const batch = queue.take();
        report(await pushBatch(batch, (paths) => options.push(paths, deadline.signal)));
        continue;
      }
      const isQuiet = queue.size === 0 && touched.size === 0;
      const quietAtMs =
        options.quietForMs === undefined ? Infinity : lastActivityMs + options.quietForMs;
      if (isQuiet && nowMs() >= quietAtMs) {
        await look(poll);
        if (queue.size === 0) break;
        continue;
      }
      await alarm.sleep(
        Math.min(
          dueAtMs ?? Infinity,
          isDraining ? Infinity : nextPollMs,
          isQuiet ? quietAtMs : Infinity,
          touched.size > 0
            ? Math.min(lastTouchMs + QUIET_MS, firstTouchMs + MAX_WAIT_MS)
            : Infinity,
        ) - nowMs(),
      );
    }
  } finally {
    clearTimeout(deadlineTimer);
    signal.removeEventListener("abort", onStop);
  }
  return { pushed, refused, unpushed: queue.list() };
}

interface Alarm {
  /** Ends the sleep there is, or the next one at once. */
  ring(): void;
  sleep(durationMs: number): Promise<void>;
}

// Longer sleeps overflow Node's timers, which then fire at once.
const MAX_SLEEP_MS = 2 ** 31 - 1;

function createAlarm(): Alarm {
  let isRinging = false;
  let wake: (() => void) | undefined;
  return {
    ring() {
      isRinging = true;
      wake?.();
    },
    async sleep(durationMs) {
      if (!isRinging) {
        const { promise, resolve } = Promise.withResolvers<void>();
        const timer = setTimeout(resolve, Math.min(Math.max(0, durationMs), MAX_SLEEP_MS));
        wake = resolve;
        await promise;
        clearTimeout(timer);
      }
      isRinging = false;
      wake = undefined;
    },
  };
}

interface FolderWatch extends Disposable {
  close(): void;
}

function watchFolder(
  folder: string,
  onName: (name: string) => void,
  onTrouble: (message: string) => void,
): FolderWatch {
  let watcher: FSWatcher;
  try {
    watcher = watch(folder, { persistent: true });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new CacheError("CONFIG", `${folder} cannot be watched: ${code}`, {
      cause: error,
      hint:
        code === "ENOSPC" || code === "EMFILE"
          ? "Raise fs.inotify.max_user_watches or fs.inotify.max_user_instances with sysctl."
          : undefined,
    });
  }
  watcher.on("change", (_event, name) => {
    if (typeof name === "string") onName(name);
  });
  watcher.on("error", (error) => {
    onTrouble(`The watch of ${folder} failed, new paths are found by asking Nix: ${error.message}`);
  });
  const close = (): void => watcher.close();
  return { close, [Symbol.dispose]: close };
}
