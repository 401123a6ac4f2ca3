/** Options of {@link createUploadQueue}. */
export interface UploadQueueOptions {
  /** Paths pushed at a time; default 500. */
  readonly maxBatch?: number;
  /** The longest wait after the first failure; it doubles from there. Default 1 s. */
  readonly baseDelayMs?: number;
  /** No wait is longer. Default 60 s. */
  readonly maxDelayMs?: number;
  /** A number in [0, 1). */
  readonly random: () => number;
}

/**
 * Store paths that wait for their upload. A path leaves it only by being pushed or refused; time comes
 * as an argument.
 */
export interface UploadQueue {
  /** Paths that wait or are under way. */
  readonly size: number;
  /** Every path that waits or is under way. */
  list(): string[];
  /** Adds a path; one that waits already stays where it is. One under way is pushed once more after. */
  add(path: string): void;
  /** When the next batch may start; `undefined` when nothing waits. */
  dueAtMs(): number | undefined;
  /** Takes the next batch, which is under way from now on. */
  take(): readonly string[];
  /** These paths are in the cache, or will never be. */
  settle(paths: readonly string[]): void;
  /**
   * These paths could not be pushed now: they wait again, all of the queue with them.
   *
   * @returns The wait in milliseconds: exponential, with jitter over its upper half.
   */
  fail(paths: readonly string[], nowMs: number): number;
  /** Lets the next batch start at once, whatever failed before, and no later wait be longer than this. */
  hurry(maxDelayMs: number): void;
}

const DEFAULT_MAX_BATCH = 500;
const DEFAULT_BASE_DELAY_MS = 1000;
const DEFAULT_MAX_DELAY_MS = 60_000;

export function createUploadQueue(options: UploadQueueOptions): UploadQueue {
  const { maxBatch = DEFAULT_MAX_BATCH, random } = options;
  const { baseDelayMs = DEFAULT_BASE_DELAY_MS } = options;
  let maxDelayMs = options.maxDelayMs ?? DEFAULT_MAX_DELAY_MS;
  const waiting = new Set<string>();
  const underWay = new Set<string>();
  let failures = 0;
  let notBeforeMs = 0;

  return {
    get size() {
      return waiting.size + [...underWay].filter((path) => !waiting.has(path)).length;
    },
    list: () => [...new Set([...underWay, ...waiting])],
    add: (path) => void waiting.add(path),
    dueAtMs: () => (waiting.size === 0 ? undefined : notBeforeMs),
    take() {
      const batch = [...waiting].slice(0, maxBatch);
      for (const path of batch) {
        waiting.delete(path);
        underWay.add(path);
      }
      return batch;
    },
    settle(paths) {
      for (const path of paths) underWay.delete(path);
      failures = 0;
    },
    fail(paths, nowMs) {
      for (const path of paths) {
        if (underWay.delete(path)) waiting.add(path);
      }
      const bound = Math.min(maxDelayMs, baseDelayMs * 2 ** Math.min(failures, 30));
      failures += 1;
      const delayMs = Math.round(bound / 2 + (random() * bound) / 2);
      notBeforeMs = nowMs + delayMs;
      return delayMs;
    },
    hurry(newMaxDelayMs) {
      maxDelayMs = newMaxDelayMs;
      notBeforeMs = 0;
    },
  };
}
