import type { Logger } from "@glorious/core";

import type { CacheIndex } from "../index/cache-index.ts";
import type { NarTouch, PathTouch } from "../index/housekeeping-index.ts";

/**
 * Remembers what was used, and tells the index now and then: one write for the reads of a minute, and none at all
 * for what is known to have been used lately.
 *
 * Access times are therefore exact to the resolution only. What was used within it must not be collected.
 */
export interface AccessRecorder {
  /**
   * A path was found present, for a reader or a push. Answers nothing as a rule. A promise says that the path is
   * being deleted at this moment: look for it again when that resolves.
   *
   * @param recordedAtMs The access time that the index was seen to have.
   */
  usePath(viewId: number, storePathHash: string, recordedAtMs?: number): Promise<void> | undefined;
  /** The same for all these paths. */
  usePaths(viewId: number, storePathHashes: readonly string[]): Promise<void> | undefined;
  /** A NAR was read under a file name; `find` says which, and is asked only when that is to be recorded. */
  useNar(viewId: number, fileName: string, find: (fileName: string) => NarName | undefined): void;
  /** Writes all that was noted before. Rejects when that fails; it is then tried again later. */
  flush(): Promise<void>;
  /**
   * Deletes paths so that every use before counts, and every use meanwhile waits.
   *
   * One at a time.
   */
  guardDeletion<Result>(
    viewId: number,
    storePathHashes: readonly string[],
    deletePaths: () => Promise<Result>,
  ): Promise<Result>;
  /** Begins to write from time to time. */
  start(): void;
  /** Writes what is left. */
  stop(): Promise<void>;
}

/** A NAR by a path that has it, or by its stored bytes. */
export type NarName =
  | { readonly kind: "path"; readonly storePathHash: string }
  | { readonly kind: "file"; readonly fileHash: string };

export interface AccessRecorderOptions {
  readonly index: Pick<CacheIndex, "touchPaths" | "touchNars">;
  readonly logger: Logger;
  readonly now: () => number;
  /** A use within this time of the last one recorded is not recorded. */
  readonly resolutionMs: number;
  readonly flushIntervalMs: number;
  /** How much may wait while writes fail; half of it is written at once, ten times remembered. Default: 20 000. */
  readonly maxPending?: number;
}

interface Deletion {
  readonly viewId: number;
  readonly storePathHashes: ReadonlySet<string>;
  readonly done: Promise<void>;
}

/** A recorder at rest. */
export function createAccessRecorder(options: AccessRecorderOptions): AccessRecorder {
  const { index, logger, now, resolutionMs, flushIntervalMs, maxPending = 20_000 } = options;
  /** When the use was last recorded, by view and by what was named. */
  const known = new Map<number, Map<string, number>>();
  let knownCount = 0;
  let paths: PathTouch[] = [];
  let nars: NarTouch[] = [];
  /** Whether the last write failed: what waits is then given up rather than kept without end. */
  let isFailing = false;
  let deletion: Deletion | undefined;
  let tail = Promise.resolve();
  let timer: NodeJS.Timeout | undefined;

  /** The time to record, unless the last one will do. */
  const note = (viewId: number, name: string, recordedAtMs: number): number | undefined => {
    let names = known.get(viewId);
    if (names === undefined) known.set(viewId, (names = new Map()));
    const before = names.get(name);
    const nowMs = now();
    const lastMs = before ?? recordedAtMs;
    const isRecent = nowMs - lastMs < resolutionMs;
    if (isRecent && before !== undefined) return undefined;
    // Forgotten rather than remembered: the next use tries again.
    if (!isRecent && isFailing && paths.length + nars.length >= maxPending) return undefined;
    if (before === undefined) {
      knownCount += 1;
      if (knownCount > 10 * maxPending) {
        known.clear();
        names.clear();
        known.set(viewId, names);
        knownCount = 1;
      }
    }
    names.set(name, isRecent ? lastMs : nowMs);
    return isRecent ? undefined : nowMs;
  };

  const write = async (): Promise<void> => {
    if (paths.length + nars.length === 0) return;
    const [pathTouches, narTouches] = [paths, nars];
    [paths, nars] = [[], []];
    try {
      // Asked for together, so that they are one commit.
      await Promise.all([index.touchPaths(pathTouches), index.touchNars(narTouches)]);
      isFailing = false;
    } catch (error) {
      isFailing = true;
      paths = [...pathTouches, ...paths];
      nars = [...narTouches, ...nars];
      throw error;
    }
  };
  const flush = (): Promise<void> => {
    const mine = tail.then(write);
    tail = mine.catch(() => {});
    return mine;
  };
  const flushLogged = async (): Promise<void> => {
    try {
      await flush();
    } catch (error) {
      logger.warn("access times could not be written", { paths: paths.length, error });
    }
  };
  const flushWhenMuch = (): void => {
    // Equal, not more: once, however many come before it has begun.
    if (paths.length + nars.length === Math.ceil(maxPending / 2)) void flushLogged();
  };

  const usePath: AccessRecorder["usePath"] = (viewId, storePathHash, recordedAtMs = -Infinity) => {
    const atMs = note(viewId, storePathHash, recordedAtMs);
    if (atMs !== undefined) {
      paths.push({ viewId, storePathHash, atMs });
      flushWhenMuch();
    }
    if (deletion === undefined || deletion.viewId !== viewId) return undefined;
    return deletion.storePathHashes.has(storePathHash) ? deletion.done : undefined;
  };

  return {
    usePath,
    usePaths(viewId, storePathHashes) {
      let wait: Promise<void> | undefined;
      for (const hash of storePathHashes) wait = usePath(viewId, hash) ?? wait;
      return wait;
    },
    useNar(viewId, fileName, find) {
      const atMs = note(viewId, fileName, -Infinity);
      if (atMs === undefined) return;
      const nar = find(fileName);
      if (nar === undefined) return;
      if (nar.kind === "path") paths.push({ viewId, storePathHash: nar.storePathHash, atMs });
      else nars.push({ viewId, fileHash: nar.fileHash, atMs });
      flushWhenMuch();
    },
    flush,
    async guardDeletion(viewId, storePathHashes, deletePaths) {
      if (deletion !== undefined) throw new Error("A deletion is under way");
      const { promise: done, resolve } = Promise.withResolvers<void>();
      deletion = { viewId, storePathHashes: new Set(storePathHashes), done };
      try {
        await flush();
        return await deletePaths();
      } finally {
        deletion = undefined;
        resolve();
      }
    },
    start() {
      timer = setInterval(() => void flushLogged(), flushIntervalMs);
      timer.unref();
    },
    async stop() {
      clearInterval(timer);
      await flushLogged();
    },
  };
}
