/**
 * Uses are noted by periods, not by moments: an entry that is asked for all the time is written once per period.
 * A period is short against the TTL that clients assume.
 */
export const PERIOD_MS: number = 5 * 60_000;

/** The period that a moment lies in. */
export function periodOf(nowMs: number): number {
  return Math.floor(nowMs / PERIOD_MS);
}
