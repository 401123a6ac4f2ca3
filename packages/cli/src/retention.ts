import type { RetentionPeriod } from "@glorious/cache-client";
import { formatDurationMs } from "@glorious/core";

import { durationSeconds } from "./parse-number.ts";

/** Reads `default`, `forever` or a duration. Throws `INVALID` otherwise. */
export function parseRetention(text: string): RetentionPeriod {
  if (text === "default") return "global";
  return { seconds: text === "forever" ? 0 : durationSeconds(text) };
}

/** What {@link parseRetention} read, for people. */
export function formatRetention(retention: RetentionPeriod | undefined): string {
  if (retention === undefined || retention === "global") return "the server's default";
  return retention.seconds === 0 ? "forever" : formatDurationMs(retention.seconds * 1000);
}
