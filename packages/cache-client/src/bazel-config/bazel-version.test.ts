import { expect, test } from "vitest";

import { isAtLeast, parseBazelRelease } from "./bazel-version.ts";

test.for([
  ["7.7.1", 7, 7],
  ["4.2.3", 4, 2],
  ["8", 8, 0],
  ["7.x", 7, 0],
  ["10.0.0-pre.20260901.1", 10, 0],
  ["6.5.0-homebrew", 6, 5],
] as const)("%s is read", ([text, major, minor]) => {
  expect(parseBazelRelease(text)).toEqual({ major, minor });
});

test.for([
  ["latest", "INVALID"],
  ["", "INVALID"],
  ["3.7.2", "UNSUPPORTED"],
] as const)("%s is refused as %s", ([text, code]) => {
  expect(() => parseBazelRelease(text)).toThrow(expect.objectContaining({ code }));
});

test("releases compare by number, not by text", () => {
  expect(isAtLeast({ major: 10, minor: 0 }, 9, 1)).toBe(true);
  expect(isAtLeast({ major: 7, minor: 9 }, 7, 10)).toBe(false);
});
