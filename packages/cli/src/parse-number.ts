import { CacheError, parseDurationMs } from "@glorious/core";

/** A parser of whole numbers from `min` to `max`. Throws `INVALID` otherwise. */
export function wholeNumber(min: number, max: number = 2 ** 31 - 1): (text: string) => number {
  return (text) => {
    const number = /^-?\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
    if (number >= min && number <= max) return number;
    throw new CacheError(
      "INVALID",
      `${JSON.stringify(text)} is no whole number from ${min} to ${max}`,
    );
  };
}

/** A duration of one millisecond at least. Throws `INVALID` otherwise. */
export function milliseconds(text: string): number {
  const durationMs = parseDurationMs(text);
  if (durationMs >= 1) return durationMs;
  throw new CacheError("INVALID", `${JSON.stringify(text)} is too short`, {
    hint: "Write such as 700ms or 3s.",
  });
}

/** A duration of whole seconds, at least one. Throws `INVALID` otherwise. */
export function durationSeconds(text: string): number {
  const durationMs = parseDurationMs(text);
  if (durationMs >= 1000 && durationMs % 1000 === 0) return durationMs / 1000;
  throw new CacheError("INVALID", `${JSON.stringify(text)} is no duration of whole seconds`, {
    hint: "Write such as 90d, 12h or 30s.",
  });
}
