import { setTimeout as delay } from "node:timers/promises";

/** Time as the client sees it; a test brings its own. */
export interface Clock {
  /** Milliseconds that only ever grow. */
  nowMs(): number;
  /** Resolves after `durationMs`; rejects with the signal's reason when that comes first. */
  sleep(durationMs: number, signal?: AbortSignal): Promise<void>;
}

/** The machine's own monotonic clock. */
export const systemClock: Clock = {
  nowMs: () => performance.now(),
  sleep: async (durationMs, signal) => {
    try {
      await delay(durationMs, undefined, signal === undefined ? {} : { signal });
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    }
  },
};
