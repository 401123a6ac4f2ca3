import { expect, test } from "vitest";

import { formatDurationMs, parseDurationMs } from "./duration.ts";

test.each([
  ["500ms", 500],
  ["30s", 30_000],
  ["1h30m", 5_400_000],
  ["30d", 2_592_000_000],
  [" 2 w ", 1_209_600_000],
])("%s is %d ms", (text, durationMs) => {
  expect(parseDurationMs(text)).toBe(durationMs);
});

test.each(["", "30", "s", "1y", "1h 30", "-5s", "1h,30m"])("%j is refused", (text) => {
  expect(() => parseDurationMs(text)).toThrow(expect.objectContaining({ code: "INVALID" }));
});

test.each([
  [250, "250 ms"],
  [90_000, "1.5 m"],
  [86_400_000, "1 d"],
])("%d ms reads %s", (durationMs, text) => {
  expect(formatDurationMs(durationMs)).toBe(text);
});
