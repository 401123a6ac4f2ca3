import type { RetentionPeriod } from "@glorious/cache-client";
import { formatDurationMs, formatSizeBytes, parseSizeBytes } from "@glorious/core";

import { durationSeconds, wholeNumber } from "./parse-number.ts";

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

/** Reads a size in bytes, or `none`. Throws `INVALID` otherwise. */
export function parseMaxSize(text: string): number | "none" {
  return text === "none" ? text : parseSizeBytes(text);
}

/** What {@link parseMaxSize} read, for people. */
export function formatMaxSize(maxSizeBytes: number | undefined): string {
  return maxSizeBytes === undefined ? "none" : formatSizeBytes(maxSizeBytes);
}

/** Reads a zstd level, or `default`. Throws `INVALID` otherwise. */
export function parseCompressionLevel(text: string): number | "default" {
  return text === "default" ? text : wholeNumber(1, 19)(text);
}
