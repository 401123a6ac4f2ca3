import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";

/** Takes the next piece of work when it is time for it. */
export type Pacer = (bytes: number) => Promise<void>;

/** A turn of the event loop that takes longer has others' work in it. */
const BUSY_TURN_MS = 1;
/** How much slower the work goes then. */
const BUSY_FACTOR = 4;
/** Shorter rests are added up: a timer is not that exact. */
const MIN_REST_MS = 10;

/**
 * Keeps work in the background at a pace: at most `bytesPerSecond`, a quarter of that while the event loop has
 * others to serve, and never two pieces in one turn of it.
 *
 * @returns what is to be awaited after each piece; it throws when the signal aborts.
 */
export function createPacer(bytesPerSecond: number, signal: AbortSignal): Pacer {
  let restUntilMs = 0;
  return async (bytes) => {
    const beginMs = performance.now();
    await nextTurn(undefined, { signal });
    const nowMs = performance.now();
    const factor = nowMs - beginMs > BUSY_TURN_MS ? BUSY_FACTOR : 1;
    restUntilMs = Math.max(restUntilMs, nowMs) + (bytes / bytesPerSecond) * 1000 * factor;
    const restMs = restUntilMs - nowMs;
    if (restMs >= MIN_REST_MS) await sleep(restMs, undefined, { signal });
  };
}
