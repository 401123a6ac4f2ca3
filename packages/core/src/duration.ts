import { CacheError } from "./cache-error.ts";

const UNITS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};

/**
 * Parses a duration such as `500ms`, `30s`, `15m`, `12h`, `30d`, `2w` or `1h30m` into milliseconds.
 *
 * @throws {CacheError} `INVALID` when the text is no duration; a bare number has no unit and is refused.
 */
export function parseDurationMs(text: string): number {
  const compact = text.trim();
  const parts = [...compact.matchAll(/(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)\s*/g)];
  const matched = parts.reduce((length, part) => length + part[0].length, 0);
  const durationMs = parts.reduce(
    (sum, part) => sum + Number(part[1]) * (UNITS[part[2] ?? ""] ?? Number.NaN),
    0,
  );
  if (parts.length === 0 || matched !== compact.length || !Number.isSafeInteger(durationMs)) {
    throw new CacheError("INVALID", `${JSON.stringify(text)} is not a duration`, {
      hint: "Write a number with a unit: ms, s, m, h, d or w, such as 30s or 1h30m.",
    });
  }
  return durationMs;
}

/** Formats milliseconds for people with its largest fitting unit and at most one decimal: `1.5 h`. */
export function formatDurationMs(durationMs: number): string {
  const unit =
    (["d", "h", "m", "s"] as const).find((name) => durationMs >= (UNITS[name] ?? 0)) ?? "ms";
  return `${Number((durationMs / (UNITS[unit] ?? 1)).toFixed(1))} ${unit}`;
}
