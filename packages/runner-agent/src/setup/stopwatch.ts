import type { SetupTimings } from "./setup-request.ts";

type Lap = Exclude<keyof SetupTimings, "totalMs">;

/** Tells where the time went. */
export interface Stopwatch {
  time<T>(lap: Lap, work: () => Promise<T>): Promise<T>;
  timings(): SetupTimings;
}

/** Starts now. */
export function startStopwatch(nowMs: () => number = () => performance.now()): Stopwatch {
  const startedMs = nowMs();
  const laps: Record<Lap, number> = { discoverMs: 0, exchangeMs: 0, agentMs: 0 };
  return {
    async time(lap, work) {
      const fromMs = nowMs();
      try {
        return await work();
      } finally {
        laps[lap] += Math.round(nowMs() - fromMs);
      }
    },
    timings: () => ({ ...laps, totalMs: Math.round(nowMs() - startedMs) }),
  };
}
