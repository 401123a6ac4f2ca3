import { CacheError } from "@glorious/core";
import { expect, test } from "vitest";

import { formatLogLine } from "./terminal-logger.ts";

const TIME = new Date(2026, 0, 1, 12, 34, 56);

test("a request is its method, its path, its status and how long it took", () => {
  const fields = { requestId: "1", method: "GET", path: "/main/x", status: 200, durationMs: 12 };
  expect(formatLogLine("info", "request", fields, TIME)).toBe("12:34:56  GET /main/x 200 (12 ms)");
});

test("facts come behind their names, and what is wrong is called so", () => {
  const fields = { view: "main", error: new CacheError("STORAGE_FULL", "no space") };
  expect(formatLogLine("warn", "an object is lost", fields, TIME)).toBe(
    '12:34:56  warning: an object is lost view=main error="no space"',
  );
});

test("what others sent stays in its line and does not reach the terminal as it is", () => {
  const fields = { subject: "a\nb\u001B[2J\u009B2J" };
  const line = formatLogLine("info", "created a token", fields, TIME);
  // oxlint-disable-next-line no-control-regex
  expect(line).not.toMatch(/[\u0000-\u001F\u007F-\u009F]/);
});
